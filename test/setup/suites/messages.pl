#!/usr/bin/perl
# Prints the messages that the code can raise, as docs/diagnostics.md has them: a line each, with ... for what is filled in, and
# the reasons for which partitions are refused. Run at the top of the project. Internal errors (elog, XX000) are left out:
# whoever meets one has found a fault.
use strict;
use warnings;

# Functions that take a message, and its place among their arguments. An argument is sought as far as this.
my %place = (raise => 1, raise_at => 2, notice => 0, errmsg => 0, give_up => 2, keep => 0, set_error => 1);
my $literal = qr/"(?:[^"\\]|\\.)*"/;

# The pieces of an expression between commas, question marks and colons that no parenthesis holds. The text of the expression may go on
# after its end.
sub pieces_of {
    my ($text, $separators) = @_;
    my @pieces = ('');
    my $depth = 0;
    while ($text =~ /\G($literal|::|.)/gs) {
        my $token = $1;
        $depth++ if $token =~ /\A[({]\z/;
        last if $token =~ /\A[)}]\z/ && --$depth < 0;
        last if $token eq ';' && $depth == 0;
        if ($depth == 0 && $token =~ /\A[$separators]\z/) { push @pieces, ''; }
        else { $pieces[-1] .= $token; }
    }
    return map { s/\s+/ /gr =~ s/\A | \z//gr } @pieces;
}

# The literals of an expression that no parenthesis holds, with ... for everything else.
sub pattern_of {
    my ($expression) = @_;
    if ($expression =~ /\Afmt::format\((.*)\)\z/) {
        my ($format) = pieces_of($1, ',');
        return join('', $format =~ /"((?:[^"\\]|\\.)*)"/g) =~ s/\{[^}]*\}/.../gr =~ s/\\(.)/$1/gr;
    }
    my $pattern = '';
    for my $term (pieces_of($expression, '+')) {
        my $text = join '', $term =~ /\A(?:std::string\()?(?:"((?:[^"\\]|\\.)*)"\s*)+\)?\z/ ? $term =~ /"((?:[^"\\]|\\.)*)"/g : '...';
        $pattern .= $text;
    }
    return $pattern =~ s/%(?:\d\$)?[a-z]/.../gr =~ s/\\(.)/$1/gr;
}

my %found;
for my $file (sort glob('src/*/*.cpp'), glob('include/partbackfill/*/*.hpp')) {
    open my $in, '<', $file or die "$file: $!";
    my $text = do { local $/ = undef; <$in> };
    close $in;
    $text =~ s{(?:^|\s)//.*$}{}gm;
    my @expressions;
    for my $function (keys %place) {
        while ($text =~ /\b(?<!void )$function\(/g) {
            my @arguments = pieces_of(substr($text, pos $text), ',');
            my $message = $arguments[ $place{$function} ] // next;
            next if $message =~ /\bconst\b|&|\A"%s"\z/ || grep { /kInternal/ } @arguments;
            $message = $1 =~ s/\s+/ /gr if $message =~ /\A\w+\z/ && $text =~ /\b(?:std::string|auto) $message = ([^;]*);/;
            push @expressions, $message;
        }
    }
    while ($text =~ /\.message =\s+/g) { push @expressions, (pieces_of(substr($text, pos $text), ','))[0]; }
    for my $expression (@expressions) {
        my @alternatives = pieces_of($expression, '?:');
        shift @alternatives if @alternatives > 1;
        for my $alternative (@alternatives) {
            my $pattern = pattern_of($alternative);
            $found{$pattern} = 1 if $pattern =~ /\w/;
        }
    }
    while ($text =~ /"(has no \w[^"]*)"/g) { $found{ $1 =~ s/: \z/: .../r } = 1; }
    while ($text =~ /\b(?:SELECT (?:\d, )?)'((?:is|has|lacks|belongs) [^']*)'( \|\|)?/g) { $found{ $1 . ($2 ? '...' : '') } = 1; }
}
for my $file (glob 'sql/partbackfill--*.sql') {
    open my $in, '<', $file or die "$file: $!";
    $found{$_} = 1 for do { local $/ = undef; <$in> }
        =~ /MESSAGE = '([^']*)'/g;
    close $in;
}
print map { "$_\n" } sort keys %found;
