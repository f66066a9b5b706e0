# Ways by which code of the extension would run under a search_path that others can set, file:line: why.

function passes(why) { print FILENAME ":" FNR ": " why }

function end_file() {
    if (asks_server != "" && !has_callers_path)
        print asks_server ": SQL beside pg::query() is the caller's, and needs pg::CallersPath"
    if (is_transaction && !pins_transaction)
        print last_file ": its transactions do not pin search_path"
}

FNR == 1 {
    end_file()
    last_file = FILENAME
    asks_server = ""
    has_callers_path = pins_transaction = in_sql = 0
    is_transaction = FILENAME == "src/pg/transaction.cpp"
    # Runs no SQL, nor may it: writers wait for it.
    is_mark = FILENAME == "src/writes/write_trigger.cpp"
}
END { end_file() }

{ in_code = !/^[[:space:]]*\/\// }

in_code && /PG_FUNCTION_INFO_V1/ && FILENAME != "include/partbackfill/pg/entry.hpp" && !is_mark {
    passes("a function for SQL is declared by PARTBACKFILL_FUNCTION")
}
is_mark && /spi\.h|pg\/query\.hpp/ { passes("runs SQL without having pinned search_path") }

in_code && /StartTransactionCommand|StartTransaction\(/ && !is_transaction { passes("transactions are pg::Transaction") }
/pin_transaction_path/ { pins_transaction = 1 }

in_code && /SPI_(prepare|execute|cursor)/ && FILENAME != "src/pg/query.cpp" && asks_server == "" { asks_server = FILENAME ":" FNR }
/CallersPath/ { has_callers_path = 1 }

# The main function of a background worker.
/^void [a-z_]+_main\(Datum/ { main = FNR; main_enters = 0 }
main && /enter_worker\(/ { main_enters = 1 }
main && /^}/ {
    if (!main_enters)
        passes("the main function of a background worker calls pg::enter_worker()")
    main = 0
}

# One place sets search_path; settings that travel with a job are looked up by that name.
in_code && /"search_path"|kSearchPath/ && FILENAME !~ /\/pg\/(search_path\.[ch]pp|session_settings\.cpp)$|^src\/process\/session\.cpp$/ {
    passes("search_path is set in pg/search_path.cpp")
}

# What a backslash means in a literal is a setting of the session's.
/R"SQL\(/ { in_sql = 1 }
in_sql && /\\/ { passes("a backslash in SQL") }
/\)SQL"/ { in_sql = 0 }

# A literal ends where a name has a quote: names in literals are parameters.
in_code && /'[^' ]*\{s\}/ { passes("the name of a schema in a literal") }
