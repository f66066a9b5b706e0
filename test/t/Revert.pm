# What the scripts about backfill_revert() have in common: jobs whose old rows are kept, their reverts and their ends.
package Revert;

use strict;
use warnings;

use Exporter 'import';

use Backfill;
use Test::More;

our @EXPORT = qw(done_job revert end_job);

# done_job($node, "'t', 'SELECT ...', swap => 'storage'"): the number of a job that has swapped all that it selects.
sub done_job {
    my ($node, $arguments) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $job = start_job($node, "$arguments, delay => '0'");
    is(wait_job($node, $job), 'done', "$arguments: done");
    return $job;
}

# revert($node, "$job, 't_2'"): how many partitions got their other rows.
sub revert {
    my ($node, $arguments) = @_;
    return $node->safe_psql('postgres', "SELECT backfill_revert($arguments)");
}

# Purges the job, and looks at what is left.
sub end_job {
    my ($node, $job, $title) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $node->safe_psql('postgres', "SELECT backfill_purge($job)");
    $node->safe_psql('postgres', "SELECT backfill_wait($job)");
    is($node->safe_psql('postgres', "SELECT backfill_forget($job)"), 't', "$title: nothing of the job is left");
    check_clean($node, $title);
    return;
}

1;
