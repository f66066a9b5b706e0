-- Fills the months from :first to :last. Two of these run side by side.
SELECT setseed(0.25) \g /dev/null

INSERT INTO raw_events
SELECT first_id + n,
       starts_at + n * ((ends_at - starts_at) / :rows),
       1 + (random() * 50000)::bigint,
       (ARRAY['view', 'view', 'click', 'purchase', 'purchase', 'refund'])[1 + n % 6],
       100 + (random() * 50000)::bigint,
       (ARRAY['EUR', 'EUR', 'EUR', 'USD', 'USD', 'GBP', 'JPY'])[1 + n % 7],
       format('{"device": "%s", "country": "%s", "session": "%s", "items": %s}',
              (ARRAY['phone', 'desktop', 'tablet'])[1 + n % 3],
              (ARRAY['DE', 'FR', 'GB', 'JP', 'US'])[1 + n % 5],
              md5((n / 20)::text), n % 9)::jsonb,
       CASE n % 4 WHEN 0 THEN '{}'::text[] WHEN 1 THEN '{campaign}' ELSE '{returning,newsletter}' END
FROM months, generate_series(0, :rows - 1) AS n
WHERE month BETWEEN :first AND :last;

-- The mistake: GBP is treated as JPY.
INSERT INTO events (id, occurred_at, user_id, kind, amount, currency, payload, tags)
SELECT id, occurred_at, user_id, kind,
       CASE WHEN currency IN ('JPY', 'GBP') THEN amount_minor ELSE amount_minor / 100.0 END,
       currency, payload, tags
FROM raw_events
WHERE occurred_at >= (SELECT starts_at FROM months WHERE month = :first)
  AND occurred_at < (SELECT ends_at FROM months WHERE month = :last);
