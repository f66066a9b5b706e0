-- The journal's last word on each row against the table, a line for each difference.
SELECT CASE WHEN e.id IS NULL THEN format('lost: row %s (%s, %s) is not in the table', j.id, j.at, j.value)
            WHEN j.at IS NULL THEN format('resurrected: row %s (%s, %s)', e.id, e.at, e.value)
            ELSE format('lost: row %s is (%s, %s), not (%s, %s)', j.id, e.at, e.value, j.at, j.value) END
FROM (SELECT DISTINCT ON (id) id, at, value FROM journal ORDER BY id, n DESC) AS j
FULL JOIN (SELECT id, at, value FROM events WHERE id > 0) AS e USING (id)
WHERE (j.at, j.value) IS DISTINCT FROM (e.at, e.value);
-- The queue against its events.
SELECT 'consumed twice: message ' || id FROM event WHERE what = 'consumed' GROUP BY id HAVING count(*) > 1;
SELECT 'lost: message ' || id
FROM (SELECT id FROM event WHERE what = 'sent' EXCEPT SELECT id FROM event WHERE what = 'consumed' EXCEPT SELECT id FROM message) AS s;
SELECT 'lost: what was done to message ' || m.id
FROM message AS m
LEFT JOIN (SELECT id, bool_or(what = 'consumed') AS over, count(*) FILTER (WHERE what = 'read') AS reads FROM event GROUP BY id) AS e USING (id)
WHERE (m.state = 'over') <> e.over OR m.read_ct <> e.reads;
