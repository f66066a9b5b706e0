# Counts the functions that a header declares or defines at namespace level, where the layout indents nothing, and
# prints the headers that have more than `most`.

function end_file() {
    if (count > most)
        print last_file ": " count " functions"
}

FNR == 1 {
    end_file()
    last_file = FILENAME
    count = 0
}
END { end_file() }

/^[A-Za-z_:[]/ && !/^(using|namespace|class|struct|union|enum|static_assert|template|typedef|concept|extern)[ :(]/ {
    declared = $0
    sub(/[={].*/, "", declared)
    count += declared ~ /\(/
}
