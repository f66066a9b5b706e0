-- One table in three partitions, each with three indexes and a jsonb payload, and the source they are rebuilt from.
-- :rows is the number of rows in all.
CREATE TABLE raw_events (
    id           bigint      NOT NULL,
    occurred_at  timestamptz NOT NULL,
    user_id      bigint      NOT NULL,
    kind         text        NOT NULL,
    amount_minor bigint      NOT NULL,
    payload      jsonb       NOT NULL
);

-- Rows arrive in the order of time; users come as they like, so one index is filled at random.
INSERT INTO raw_events
SELECT n,
       '2024-01-01'::timestamptz + n * ('90 days'::interval / :rows),
       (hashint8(n)::bigint & 1048575),
       (ARRAY['view', 'click', 'purchase', 'refund'])[1 + n % 4],
       n % 100000,
       format('{"device": "%s", "country": "%s", "items": %s}',
              (ARRAY['phone', 'desktop', 'tablet'])[1 + n % 3],
              (ARRAY['DE', 'FR', 'GB', 'JP', 'US'])[1 + n % 5],
              n % 9)::jsonb
FROM generate_series(0, :rows - 1) AS n;
CREATE INDEX ON raw_events (occurred_at);

CREATE VIEW recompute_source AS
SELECT id, occurred_at, user_id, kind, (amount_minor / 100.0)::numeric(12, 2) AS amount, payload
FROM raw_events;

CREATE TABLE events (
    id          bigint         NOT NULL,
    occurred_at timestamptz    NOT NULL,
    user_id     bigint         NOT NULL,
    kind        text           NOT NULL,
    amount      numeric(12, 2) NOT NULL CHECK (amount >= 0),
    payload     jsonb          NOT NULL
) PARTITION BY RANGE (occurred_at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-01-31');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2024-01-31') TO ('2024-03-01');
CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM ('2024-03-01') TO ('2024-03-31');
INSERT INTO events SELECT * FROM recompute_source;
ALTER TABLE events ADD PRIMARY KEY (id, occurred_at);
CREATE INDEX ON events (user_id, occurred_at);
CREATE INDEX ON events ((payload ->> 'country'));

VACUUM (ANALYZE) raw_events;
VACUUM (ANALYZE) events;
