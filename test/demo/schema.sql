-- Three years of events in monthly partitions, what they were made from, and the corrected transformation.
-- :rows is the number of events a month.

-- As it arrived: amounts in the currency's smallest unit.
CREATE TABLE raw_events (
    id           bigint      NOT NULL,
    occurred_at  timestamptz NOT NULL,
    user_id      bigint      NOT NULL,
    kind         text        NOT NULL,
    amount_minor bigint      NOT NULL,
    currency     text        NOT NULL,
    payload      jsonb       NOT NULL,
    tags         text[]      NOT NULL
);

CREATE TABLE events (
    id          bigint         NOT NULL,
    occurred_at timestamptz    NOT NULL,
    user_id     bigint         NOT NULL,
    kind        text           NOT NULL,
    amount      numeric(12, 2) NOT NULL,
    currency    text           NOT NULL,
    payload     jsonb          NOT NULL,
    tags        text[]         NOT NULL DEFAULT '{}',
    is_refund   boolean        GENERATED ALWAYS AS (kind = 'refund') STORED,
    CONSTRAINT events_amount_positive CHECK (amount >= 0)
) PARTITION BY RANGE (occurred_at);

COMMENT ON TABLE events IS 'What customers did, one partition a month.';
CREATE ROLE analyst NOLOGIN;
GRANT SELECT ON events TO analyst;

-- A month's bounds, its ids, and what a reader may find in it: the old figures or the new, nothing else.
CREATE TABLE months (
    month     integer PRIMARY KEY,
    starts_at timestamptz NOT NULL,
    ends_at   timestamptz NOT NULL,
    first_id  bigint NOT NULL,
    last_id   bigint NOT NULL,
    old_count bigint,
    old_sum   numeric,
    new_count bigint,
    new_sum   numeric
);
INSERT INTO months
SELECT month,
       '2023-01-01'::timestamptz + month * interval '1 month',
       '2023-01-01'::timestamptz + (month + 1) * interval '1 month',
       month * :rows + 1,
       (month + 1) * :rows
FROM generate_series(0, 35) AS month;

SELECT format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
              to_char(starts_at, 'YYYY_MM'), starts_at, ends_at)
FROM months ORDER BY month
\gexec

-- History as it really is: one month was treated differently by somebody once.
ALTER TABLE events_2024_02 SET (fillfactor = 95);
COMMENT ON TABLE events_2024_02 IS 'Loaded twice, see the report of 2024-03-04.';

-- The corrected transformation. The one that filled events took pence for pounds: it divided neither JPY, which has
-- no smaller unit, nor GBP, which has.
CREATE VIEW recompute_source AS
SELECT id, occurred_at, user_id, kind,
       CASE currency WHEN 'JPY' THEN amount_minor ELSE round(amount_minor / 100.0, 2) END AS amount,
       currency, payload, tags
FROM raw_events;

-- Readers write here what they must never see.
CREATE UNLOGGED TABLE partial_reads (
    seen_at timestamptz DEFAULT clock_timestamp(),
    month   integer,
    count   bigint,
    sum     numeric
);
