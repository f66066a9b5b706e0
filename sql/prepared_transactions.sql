-- Transactions in which a job was started, and PREPARE TRANSACTION. Where the server has none, so says the second output.
CREATE SCHEMA prepared_transactions;
SET search_path = prepared_transactions, public;
CREATE TABLE t (k int) PARTITION BY RANGE (k);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
CREATE TABLE source AS SELECT 1 AS k;

-- its workers wait for such a transaction, so it cannot be left to a later server; one that rolled the start back can
BEGIN;
SELECT backfill_start('t', 'source') > 0 AS started;
PREPARE TRANSACTION 'partbackfill';
BEGIN;
SAVEPOINT before;
SELECT backfill_start('t', 'source') > 0 AS started;
ROLLBACK TO before;
PREPARE TRANSACTION 'partbackfill';
ROLLBACK PREPARED 'partbackfill';
SELECT count(*) FROM backfill_status WHERE target LIKE 'prepared_transactions.%'; -- neither has left a job
SET client_min_messages = warning;
DROP SCHEMA prepared_transactions CASCADE;
