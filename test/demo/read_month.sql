-- Reads a whole month, in one statement, and compares it with the only two figures it may have: those before its
-- swap and those after. Bounds are put in as constants, as an application would, so that one partition is touched.
\set month random(0, 35)
SELECT starts_at, ends_at, old_count, old_sum, new_count, new_sum
FROM months WHERE month = :month \gset
SELECT count, sum, (count, sum) NOT IN ((:old_count, :old_sum), (:new_count, :new_sum)) AS partial
FROM (SELECT count(*), coalesce(sum(amount), 0) AS sum
      FROM events WHERE occurred_at >= ':starts_at' AND occurred_at < ':ends_at') AS found \gset
\if :partial
INSERT INTO partial_reads (month, count, sum) VALUES (:month, :count, :sum);
\endif
