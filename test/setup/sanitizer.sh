# With SANITIZE=1 the library is built with the address and undefined behaviour sanitizers, and the throw-away server
# runs with their libraries: what they find ends the process with SIGABRT and is a file in $scratch/sanitizer, which
# check.sh reads. Only the library is instrumented; but as the allocator is replaced for the whole process, memory of the
# server that the library misuses is seen too, by the block that malloc gave. Sourced.
# shellcheck shell=bash
: "${scratch=}" "${checkout=}" "${bindir=}"

# What must come before all else in the process, the C++ library too, or throwing finds no original to call.
sanitizer_libraries() {
    local library path
    for library in libasan.so libubsan.so libstdc++.so; do
        path=$(readlink -f "$(g++ "-print-file-name=$library")")
        [[ -f $path ]] || fail "g++ has no $library"
        printf '%s ' "$path"
    done
}

# Puts a script in the place of the server's program, so that neither initdb nor a client is slowed down, and every
# server of a test script has it. It keeps its name, by which pg_ctl starts it again.
wrap_server() {
    local reports=$scratch/sanitizer common libraries
    mkdir -m 1777 "$reports"
    # Memory that is too much shall be an error of the server's own, as without. It never frees its contexts at the
    # end, so leaks are not looked for; and it measures its stack, which must be one.
    common="abort_on_error=1:halt_on_error=1:print_stacktrace=1:log_path=$reports/report"
    gcc -shared -fPIC -Wl,-z,initfirst "-DOPTIONS=\"$common\"" "-DREPORTS=\"$reports/report\"" \
        -o "$reports.so" "$checkout/test/sanitizer/early.c"
    libraries="$reports.so $(sanitizer_libraries)"
    mv "$bindir/postgres" "$bindir/postgres.unwrapped"
    cat >"$bindir/postgres" <<EOF
#!/bin/bash
case \${1:-} in
--boot | --single | --check | --describe-config | -C | -V | --version) ;;
*)
    export LD_PRELOAD="$libraries"
    # Since GCC 16 the two libraries read an environment variable each.
    export UBSAN_OPTIONS="$common"
    export ASAN_OPTIONS="$common:detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1:\\
detect_odr_violation=0:verify_asan_link_order=0:quarantine_size_mb=32:disable_coredump=1"
    ;;
esac
exec -a "\$0" "$bindir/postgres.unwrapped" "\$@"
EOF
    chmod 755 "$bindir/postgres"
}

# Prints what the sanitizers have reported since they were last asked; false when there is nothing.
take_reports() {
    local report found=1
    while IFS= read -r report; do
        found=0
        say "----- $(basename "$report")"
        head -n 60 "$report"
        rm -f "$report"
    done < <(find "$scratch/sanitizer" -type f 2>/dev/null)
    return "$found"
}
