-- What one does without the extension: build each partition off to the side, then exchange it for the live one.
SELECT format($script$
CREATE TABLE %1$s_new (LIKE events INCLUDING ALL);
INSERT INTO %1$s_new SELECT * FROM recompute_source WHERE occurred_at >= %2$L AND occurred_at < %3$L;
BEGIN;
ALTER TABLE events DETACH PARTITION %1$s;
ALTER TABLE events ATTACH PARTITION %1$s_new FOR VALUES FROM (%2$L) TO (%3$L);
DROP TABLE %1$s;
ALTER TABLE %1$s_new RENAME TO %1$s;
COMMIT;
$script$, partition, low, high)
FROM (VALUES ('events_1', '2024-01-01', '2024-01-31'),
             ('events_2', '2024-01-31', '2024-03-01'),
             ('events_3', '2024-03-01', '2024-03-31')) AS bounds (partition, low, high)
\gexec
