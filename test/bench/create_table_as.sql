-- The least that plain SQL can do: the same rows and the same indexes, not yet a partition of anything.
SELECT unnest(ARRAY[
    format('CREATE TABLE %1$s_new AS SELECT * FROM recompute_source WHERE occurred_at >= %2$L AND occurred_at < %3$L',
           partition, low, high),
    format('CREATE UNIQUE INDEX ON %1$s_new (id, occurred_at)', partition),
    format('CREATE INDEX ON %1$s_new (user_id, occurred_at)', partition),
    format($$CREATE INDEX ON %1$s_new ((payload ->> 'country'))$$, partition)])
FROM (VALUES ('events_1', '2024-01-01', '2024-01-31'),
             ('events_2', '2024-01-31', '2024-03-01'),
             ('events_3', '2024-03-01', '2024-03-31')) AS bounds (partition, low, high)
\gexec
