-- Reads one event by its key. It must be there, once, at any time.
\set month random(0, 35)
\set offset random(0, :rows - 1)
SELECT starts_at, ends_at, first_id + :offset AS event
FROM months WHERE month = :month \gset
SELECT count, sum, count <> 1 AS partial
FROM (SELECT count(*), coalesce(sum(amount), 0) AS sum
      FROM events WHERE id = :event AND occurred_at >= ':starts_at' AND occurred_at < ':ends_at') AS found \gset
\if :partial
INSERT INTO partial_reads (month, count, sum) VALUES (:month, :count, :sum);
\endif
