# What the files say of the extension that are read by others: prints a line for each thing that is wrong. META.json has to be
# valid by version 1.0.0 of PGXN's specification, and all of them have to name the same version.
use strict;
use warnings;

use JSON::PP;

sub slurp {
    my ($file) = @_;
    open my $handle, '<', $file or return '';
    local $/ = undef;
    return <$handle>;
}

sub wrong { return print "@_\n" }

my $meta = eval { JSON::PP->new->decode(slurp('META.json')) };
if (ref $meta ne 'HASH') {
    wrong('META.json is no JSON object:', $@);
    exit;
}

my $term = qr{^[^\s/\\\x00-\x1f]{2,}$};
my $semver = qr/^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[a-zA-Z][-0-9A-Za-z]*)?$/;
my $text = sub { defined $_[0] && !ref $_[0] && $_[0] =~ /\S/ };
my $version = sub { defined $_[0] && !ref $_[0] && $_[0] =~ $semver };
my $range = sub { defined $_[0] && !ref $_[0] && !grep { !/^\s*((<|<=|>|>=|==|!=)\s*)?(0|\d+\.\d+\.\d+\S*)\s*$/ } split /,/, $_[0] };

my %licenses = map { $_ => 1 } qw(agpl_3 apache_1_1 apache_2_0 artistic_1 artistic_2 bsd freebsd gfdl_1_2 gfdl_1_3 gpl_1 gpl_2 gpl_3
    lgpl_2_1 lgpl_3_0 mit mozilla_1_0 mozilla_1_1 openssl perl_5 postgresql qpl_1_0 ssleay sun zlib open_source restricted
    unrestricted unknown);
my %required = (
    name => sub { $text->($_[0]) && $_[0] =~ $term },
    abstract => $text,
    version => $version,
    maintainer => sub { ref $_[0] eq 'ARRAY' ? @{ $_[0] } && !grep { !$text->($_) } @{ $_[0] } : $text->($_[0]) },
    license => sub { !ref $_[0] && $licenses{ $_[0] // '' } },
    provides => sub { ref $_[0] eq 'HASH' && %{ $_[0] } },
    'meta-spec' => sub { ref $_[0] eq 'HASH' && ($_[0]{version} // '') =~ /^1\.0\.\d+$/ });
my %optional = (
    description => $text,
    generated_by => $text,
    tags => sub { ref $_[0] eq 'ARRAY' && !grep { !$text->($_) || length $_ > 255 || m{[/\\\x00-\x1f]} } @{ $_[0] } },
    no_index => sub { ref $_[0] eq 'HASH' },
    prereqs => sub { ref $_[0] eq 'HASH' },
    release_status => sub { ($_[0] // '') =~ /^(stable|testing|unstable)$/ },
    resources => sub { ref $_[0] eq 'HASH' });

for my $field (sort keys %required) {
    wrong("META.json: $field is missing or wrong") if !$required{$field}->($meta->{$field});
}
for my $field (sort keys %{$meta}) {
    next if $required{$field} || $field =~ /^x_/i;
    wrong("META.json: $field is " . ($optional{$field} ? 'wrong' : 'no field of the specification'))
        if !$optional{$field} || !$optional{$field}->($meta->{$field});
}
for my $name (sort keys %{ $meta->{provides} }) {
    my $extension = $meta->{provides}{$name};
    wrong("META.json: there is no file of $name") if !$text->($extension->{file}) || !-e $extension->{file};
    wrong("META.json: there is no docfile of $name") if defined $extension->{docfile} && !-e $extension->{docfile};
    wrong("META.json: version of $name") if !$version->($extension->{version});
    wrong("META.json: no control file of $name") if !-e "$name.control";
}
for my $phase (sort keys %{ $meta->{prereqs} // {} }) {
    wrong("META.json: prereqs has no $phase") if $phase !~ /^(configure|build|test|runtime|develop)$/;
    for my $relation (sort keys %{ $meta->{prereqs}{$phase} }) {
        wrong("META.json: prereqs of $phase has no $relation") if $relation !~ /^(requires|recommends|suggests|conflicts)$/;
        my $needs = $meta->{prereqs}{$phase}{$relation};
        wrong("META.json: $phase $relation $_") for grep { !$range->($needs->{$_}) } sort keys %{$needs};
    }
}

# Without the last number where that is 0: 1.1.0 is 1.1.
my ($control) = slurp('partbackfill.control') =~ /^default_version = '(.*)'$/m;
sub short { return $_[0] =~ s/^(\d+\.\d+)\.0$/$1/r }
my %versions = (
    'META.json' => short($meta->{version} // ''),
    'META.json, provides' => short($meta->{provides}{partbackfill}{version} // ''),
    'include/partbackfill/pg/compatibility.hpp' => slurp('include/partbackfill/pg/compatibility.hpp') =~ /kVersion = "(.*)"/ ? $1 : '',
    'debian/changelog' => slurp('debian/changelog') =~ /^partbackfill \((.*)-[^-]*\)/ ? $1 : '',
    'CHANGELOG.md' => slurp('CHANGELOG.md') =~ /^## (\S+)/m ? $1 : '');
for my $file (sort keys %versions) {
    wrong("$file: version \"$versions{$file}\" is not that of the control file, \"$control\"") if $versions{$file} ne $control;
}
wrong("sql/partbackfill--$control.sql is missing") if !-e "sql/partbackfill--$control.sql";

# Each script is installed.
my ($data) = slurp('Makefile') =~ /^DATA = (.*)$/m;
for my $script (glob 'sql/partbackfill--*.sql') {
    wrong("Makefile: $script is not among DATA") if !grep { $_ eq $script } split ' ', $data;
}
