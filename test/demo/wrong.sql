-- Events that differ from what the corrected transformation says, in any column, or that only one side has.
SET work_mem = '256MB';
SELECT count(*)
FROM events AS e FULL JOIN recompute_source AS s ON s.id = e.id
WHERE (e.id, e.occurred_at, e.user_id, e.kind, e.amount, e.currency, e.payload, e.tags, e.is_refund)
      IS DISTINCT FROM
      (s.id, s.occurred_at, s.user_id, s.kind, s.amount, s.currency, s.payload, s.tags, s.kind = 'refund');
