-- The same with the extension and two workers.
\set workers 2
\ir partbackfill.sql
