# SPDX-License-Identifier: BSD-3-Clause
# profile.awk - what a profile of callgrind says of the messages of turns.
#
#   awk -v messages=N -v transport=vader -f profile.awk PROFILE
#
# Prints lines of a key and a number, for each message
#   transport      what is executed from each entry into the transport until it returns,
#                  with what it calls (of libc, say), but without what the PML does when
#                  the transport hands it a message
#   all            from MPI_Send or MPI_Recv until it returns
#   in OBJECT      in that object itself, by the name of its file without versions
#   fn NAME        in that function of the transport itself
# and how often, in the whole run,
#   looks          MPI_Recv called opal_progress
#   receives       MPI_Recv was called. When both are the same, every message was there at
#                  the first look, and no polling is in the numbers above.
#
# The format is the one of "Callgrind Format Specification" in valgrind's manual: names
# are given once and later by number; a call's line is followed by one with what was
# executed until it returned.

# "(12) name" or "(12)", of one kind of names.
function name_of(kind, text,    number) {
    number = text
    sub(/\).*/, "", number)
    if (sub(/^\([0-9]+\) /, "", text))
        names[kind, number] = text
    return names[kind, number]
}

function object_name(path) {
    sub(/.*\//, "", path)
    sub(/\.so.*/, "", path)
    return path
}

function is_transport(object) { return object == "mca_btl_" transport }
function is_pml(object)       { return object ~ /^mca_pml_/ }

# The functions of turns that are counted are not MPI's.
function called(count, cost) {
    if (to_object == "libmpi" && object == "turns")
        all += cost
    if (is_transport(to_object) && !is_transport(object))
        inside += cost
    if (is_transport(object) && is_pml(to_object))
        inside -= cost
    if (to == "mca_pml_ob1_recv")
        receives += count
    if (to == "opal_progress" && name == "mca_pml_ob1_recv")
        looks += count
}

/^events: / { counted = $2 == "Ir" }
/^ob=/  { object = object_name(name_of("ob", substr($0, 4))); next }
/^fn=/  { name = name_of("fn", substr($0, 4)); next }
/^cob=/ { to_object = object_name(name_of("ob", substr($0, 5))); other_object = 1; next }
/^cfn=/ { to = name_of("fn", substr($0, 5)); next }
/^calls=/ {
    split(substr($0, 7), count, " ")
    if (!other_object)
        to_object = object
    if (getline > 0)
        called(count[1], $2)
    other_object = 0
    next
}
/^[0-9+*-]/ {
    self[object] += $2
    if (is_transport(object))
        functions[name] += $2
}
/^totals: / { complete = 1 }

END {
    if (!counted || !complete || messages <= 0)
        exit 1
    printf "transport %.1f\n", inside / messages
    printf "all %.1f\n", all / messages
    printf "looks %d\nreceives %d\n", looks, receives
    for (object in self)
        if (self[object] >= messages / 20)
            printf "in %s %.1f\n", object, self[object] / messages
    for (name in functions)
        if (functions[name] >= messages / 20)
            printf "fn %s %.1f\n", name, functions[name] / messages
}
