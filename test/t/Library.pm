# Libraries in C that a test makes for its server.
package Library;

use strict;
use warnings;

use Exporter 'import';

use PostgreSQL::Test::Utils;

our @EXPORT = qw(build_library);

# build_library($name, $source): its path. The private installation has no headers: those that the harness names are taken.
sub build_library {
    my ($name, $source) = @_;
    my $folder = PostgreSQL::Test::Utils::tempdir();
    append_to_file("$folder/$name.c", $source);
    my $include = $ENV{PARTBACKFILL_SERVER_HEADERS} // qx{${\($ENV{PG_CONFIG} // 'pg_config')} --includedir-server};
    chomp $include;
    system('cc', '-shared', '-fPIC', '-I', $include, '-o', "$folder/$name.so", "$folder/$name.c") == 0 or die "could not build library $name";
    return "$folder/$name.so";
}

1;
