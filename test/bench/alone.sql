-- The same without helpers: nothing is read ahead, and one index is built after the other.
SET partbackfill.helpers = 'off';
\ir partbackfill.sql
