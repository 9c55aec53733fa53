# Reads the event stream of Swift Testing (version 0) and prints the tests that did not pass, then
# the closing line. Needs: status, the exit code of `swift test`; ci, "true" where skips are failures;
# first and second, what else has failed, if not empty.
# Exits with 1 for a run that proves nothing: a failure, no test at all, or a skip in CI.
#
# Quotes inside JSON strings are escaped, so no test's name or output can look like a key.

function field(key,    value) {
    if (!match($0, "\"" key "\":\"([^\"\\\\]|\\\\.)*\"")) return ""
    value = substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 5)
    gsub(/\\\//, "/", value)
    return value
}

# A function's identity ends in its place in the source; a suite's does not.
function isFunction(id) { return id ~ /:[0-9]+:[0-9]+$/ }

/^\{"kind":"test",/ && /","isParameterized":/ {
    match($0, /"id":"([^"\\]|\\.)*","isParameterized":/)
    id = substr($0, RSTART + 6, RLENGTH - 26)
    gsub(/\\\//, "/", id)
    if (!(id in outcome)) order[++announced] = id
    outcome[id] = "did not end"
}

/^\{"kind":"event",/ && /"kind":"testSkipped"/ {
    id = field("testID")
    if (isFunction(id)) { outcome[id] = "skipped"; why[id] = field("text") }
}

/^\{"kind":"event",/ && /"kind":"testEnded"/ {
    id = field("testID")
    symbol = field("symbol")
    if (isFunction(id)) {
        outcome[id] = symbol ~ /^pass/ ? "passed" : symbol == "skip" ? "skipped" : "failed"
        why[id] = field("text")
    }
}

END {
    for (n = 1; n <= announced; n++) {
        id = order[n]
        if (outcome[id] == "passed") { passed++; continue }
        if (outcome[id] == "skipped") skipped++; else failed++
        printf "%s: %s%s\n", outcome[id], id, id in why ? " (" why[id] ")" : ""
    }
    if (announced == 0) print "failed: no test ran"
    else if (status != 0 && failed == 0) print "failed: swift test ended with code " status
    if (announced == 0 || status != 0 && failed == 0) failed++
    if (first != "") { print "failed: " first; failed++ }
    if (second != "") { print "failed: " second; failed++ }
    if (ci == "true" && skipped > 0) print "failed: in CI no test may be skipped"
    printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
    exit failed > 0 || ci == "true" && skipped > 0
}
