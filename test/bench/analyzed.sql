-- What create_table_as.sql makes, with statistics, as a partition needs them before it is read.
\ir create_table_as.sql
ANALYZE events_1_new;
ANALYZE events_2_new;
ANALYZE events_3_new;
