{# Backfills of partbackfill from dbt. Put this file into the project's macros:

     dbt run-operation backfill --args '{target: events, source: corrected_events, label: fix-1234, arguments: {workers: 2}}'

   The job of the label is started, or found again; the operation ends when it is done, and fails with the partitions that failed.
   A run that was interrupted is simply run again. The source may be the name of a model: dbt builds a view, partbackfill brings the
   rows of the partitioned table up to it, one partition at a time. #}

{# The rows of a query. Each has a transaction of its own: a job begins when the one that has started it commits. #}
{% macro partbackfill_query(sql) %}
    {% do run_query('BEGIN') %}
    {% set rows = run_query(sql).rows %}
    {% do run_query('COMMIT') %}
    {{ return(rows) }}
{% endmacro %}

{% macro partbackfill_literal(value) %}
    {{ return("'" ~ (value | string | replace("'", "''")) ~ "'") }}
{% endmacro %}

{# The number of the job. Of a job of the label that has failed the failed partitions are tried again; one that is paused goes on. #}
{% macro backfill_start(target, source, label, arguments={}) %}
    {% set known = partbackfill_query("SELECT job, state FROM backfill_status WHERE label = " ~ partbackfill_literal(label)
                                      ~ " AND owner = current_user ORDER BY job DESC LIMIT 1") %}
    {% if known | length > 0 and known[0][1] in ['running', 'ready', 'paused', 'failed'] %}
        {% set job = known[0][0] %}
        {% if known[0][1] == 'paused' %}
            {% do partbackfill_query("SELECT backfill_resume(" ~ job ~ ")") %}
        {% elif known[0][1] == 'failed' %}
            {% do partbackfill_query("SELECT backfill_retry(" ~ job ~ ")") %}
        {% endif %}
        {{ return(job) }}
    {% endif %}
    {% set named = [] %}
    {% for name, value in arguments.items() %}
        {% do named.append(", " ~ name ~ " => " ~ partbackfill_literal(value)) %}
    {% endfor %}
    {% set started = partbackfill_query("SELECT backfill_start(" ~ partbackfill_literal(target) ~ ", " ~ partbackfill_literal(source)
                                        ~ ", label => " ~ partbackfill_literal(label) ~ named | join('') ~ ")") %}
    {{ return(started[0][0]) }}
{% endmacro %}

{# Starts it and waits. A job that is paused meanwhile, or canceled, ends the operation with an error too. #}
{% macro backfill(target, source, label, arguments={}) %}
    {% if execute %}
        {% set job = backfill_start(target, source, label, arguments) %}
        {% set seen = namespace(state='running') %}
        {% for look in range(1000000) if seen.state == 'running' %}
            {% set row = partbackfill_query("SELECT backfill_wait(" ~ job ~ ", '10 s'), percent, done, partitions, COALESCE(waiting_on, '')"
                                            ~ " FROM backfill_status WHERE job = " ~ job)[0] %}
            {% set seen.state = row[0] %}
            {% do log("backfill job " ~ job ~ ": " ~ row[0] ~ ", " ~ row[1] ~ " %, " ~ row[2] ~ " of " ~ row[3] ~ " partitions " ~ row[4], info=True) %}
        {% endfor %}
        {% if seen.state not in ['done', 'ready'] %}
            {% set reasons = [] %}
            {% for row in partbackfill_query("SELECT split_part(error, chr(10), 1) FROM backfill_status WHERE job = " ~ job ~ " AND failed = 0 AND error IS NOT NULL") %}
                {% do reasons.append(row[0]) %}
            {% endfor %}
            {% for row in partbackfill_query("SELECT partition || ': ' || split_part(error, chr(10), 1) FROM backfill_progress WHERE job = " ~ job
                                             ~ " AND state = 'failed' ORDER BY ordinal") %}
                {% do reasons.append(row[0]) %}
            {% endfor %}
            {% do exceptions.raise_compiler_error("backfill job " ~ job ~ " is " ~ seen.state ~ ": " ~ reasons | join('; ')) %}
        {% endif %}
    {% endif %}
{% endmacro %}
