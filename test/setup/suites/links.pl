#!/usr/bin/perl
# Prints links between the documents whose heading is not there. Run at the top of the project.
use strict;
use warnings;
use File::Basename qw(dirname);

sub text_of {
    my ($file) = @_;
    open my $in, '<', $file or return '';
    local $/ = undef;
    return scalar <$in>;
}

# As the usual renderers make them of headings.
sub anchors_of {
    my ($file) = @_;
    my $text = text_of($file) =~ s/^```.*?^```//gmsr;
    return map { lc($_) =~ s/[^\w\- ]//gr =~ s/ /-/gr => 1 } $text =~ /^#+ +(.*)$/gm;
}

for my $document (glob '*.md docs/*.md') {
    for (text_of($document) =~ /\]\(([A-Za-z0-9_.\/-]*#[^)]+)\)/g) {
        my ($file, $anchor) = split /#/;
        my %anchors = anchors_of($file eq '' ? $document : dirname($document) . "/$file");
        print "$document: $_\n" if !$anchors{$anchor};
    }
}
