# Reads "file:line:include directive" and prints those that break a rule of the floors: order (nothing includes a
# higher floor) or pure (core and job name no header of the server).
BEGIN {
    count = split("core pg locks catalog writes load shadow swap checks job throttle process worker api", name, " ")
    for (i = 1; i <= count; i++) height[name[i]] = i
}
function floor_of(path) {
    sub(/^(src|include\/partbackfill)\//, "", path)
    return substr(path, 1, index(path, "/") - 1)
}
function exists(path,   line, found) {
    found = (getline line < path) >= 0
    close(path)
    return found
}
{
    split($0, part, ":")
    file = part[1]; where = part[1] ":" part[2]
    match($0, /[<"][^>"]*[>"]/)
    included = substr($0, RSTART + 1, RLENGTH - 2)
    quoted = substr($0, RSTART, 1) == "\""
    own = floor_of(file)
    directory = file; sub(/[^\/]*$/, "", directory)
}
want == "order" && included ~ /^partbackfill\// {
    other = included; sub(/^partbackfill\//, "", other)
    other = substr(other, 1, index(other, "/") - 1)
    if (!(other in height) || height[other] > height[own])
        print where ": " own " includes " included
}
# An allowed list, since the server has more headers than a forbidden one would name.
want == "pure" && (own == "core" || own == "job") {
    # The one header of ours that is nothing but the server's.
    if (included == "partbackfill/pg/server.hpp")
        print where ": " own " includes the server through " included
    else if (included ~ /^partbackfill\// || included ~ /^fmt\//)
        next
    else if (!quoted && included ~ /^[a-z0-9_]+$/)
        next
    else if (quoted && exists(directory included))
        next
    else
        print where ": " own " includes " included
}
