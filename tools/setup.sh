# SPDX-License-Identifier: BSD-3-Clause
# setup.sh - what ./demo and ./check share: from a bare Debian 12 to build/.
#
# Start at setup(). Each step looks whether its work is done already, so that a
# second run takes about a second. build/.state holds what the last build was
# made with, or "unfinished" while one is going on: a build that was interrupted,
# or made in another place or with another compiler, Open MPI or set of local.mk,
# is made anew.
# What is said goes to stderr, for stdout belongs to the caller.
# Sourced by bash; the caller has set `root`, the top of the checkout.

build=$root/build

# Open MPI refuses to run as root unless told twice.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

say() { echo "$*" >&2; }
die() { say "${0##*/}: $*"; exit 1; }

have_clang() { clang-14 --version || clang --version; }
have_openmpi() { openmpi_version | grep 'Open MPI'; }
openmpi_version() {
    { mpicc --showme:version || mpicc.openmpi --showme:version; } 2>/dev/null
}

# A package, and a command that succeeds where what the package gives is there,
# whatever it came from.
needs() {
    cat <<'END'
gcc                gcc --version
libc6-dev          test -e /usr/include/stdio.h
make               make --version
autoconf           autoconf --version
automake           automake --version
libtool            libtoolize --version
pkg-config         pkg-config --version
libopenmpi-dev     have_openmpi
openmpi-bin        ompi_info --version
libhwloc-dev       pkg-config --exists hwloc
libjansson-dev     pkg-config --exists jansson
mpich              mpirun.mpich --version
libmpich-dev       mpicc.mpich -show
END
    case $1 in
    demo)  echo "gnuplot-nox  gnuplot --version" ;;
    check) echo "libfabric-dev  pkg-config --exists libfabric"
           echo "libucx-dev  pkg-config --exists ucx"
           echo "libibverbs-dev  pkg-config --exists libibverbs"
           echo "libcriterion-dev  pkg-config --exists criterion"
           echo "clang-14  have_clang"
           echo "spin  spin -V"
           echo "gnuplot-nox  gnuplot --version"
           echo "python3  python3 --version"
           echo "valgrind  valgrind --version"
           echo "sparse  sparse --version"
           echo "iproute2  ip -V"
           echo "perftest  command -v ib_send_lat"
           echo "nftables  nft --version" ;;
    esac
}

missing_packages() {    # demo|check
    local package probe
    hash -r
    needs "$1" | while read -r package probe; do
        $probe >/dev/null 2>&1 </dev/null || echo "$package"
    done
}

apt_install() {         # PREFIX PACKAGES...
    local prefix=$1
    shift
    $prefix env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$@"
}

install_packages() {    # demo|check
    local list as=
    mapfile -t list < <(missing_packages "$1")
    [ ${#list[@]} != 0 ] || return 0

    command -v apt-get >/dev/null ||
        die "missing: ${list[*]} (Debian's names for them; there is no apt-get here)"
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null ||
            die "some packages are missing, and installing them needs root. Run
    sudo apt-get install ${list[*]}
and then this again."
        as="sudo -n"
    fi
    say "installing ${list[*]}"
    # The first try fails where the package lists are old or were never fetched.
    { apt_install "$as" "${list[@]}" ||
        { $as apt-get update && apt_install "$as" "${list[@]}"; }
    } </dev/null >"$build/apt.log" 2>&1 9>&- || show_and_die apt-get "$build/apt.log"

    mapfile -t list < <(missing_packages "$1")
    [ ${#list[@]} = 0 ] || die "apt-get succeeded, yet these are missing: ${list[*]}"
}

show_and_die() {        # WHAT LOG
    tail -n 25 "$2" >&2
    die "$1 failed; all it said is in $2"
}

open_build_directory() {
    [ ! -e "$root/config.status" ] ||
        die "$root was configured in place, which a build in build/ does not survive; run 'make distclean' there first"
    mkdir -p "$build" 2>/dev/null ||
        die "cannot make $build: this user may not write there; clone the project into a folder of your own"
    local alien
    alien=$(find "$build" ! -type l ! -writable -print -quit 2>/dev/null)
    [ -z "$alien" ] ||
        die "$alien belongs to $(stat -c %U "$alien") and cannot be written by $(id -un); take the folder over ('sudo chown -R $(id -un) $build') or remove it ('sudo rm -rf $build')"
    exec 9>"$build/.lock"
    flock -n 9 || { say "waiting for another ./demo or ./check to finish building"; flock 9; }
}

# Runs a command quietly: its output goes to build/NAME.log.
step() {                # NAME COMMAND...
    local name=$1
    shift
    "$@" </dev/null >"$build/$name.log" 2>&1 9>&- || {
        # Where a compiler failed, what is built is good: the next run goes on.
        [ "$name" != make ] || echo "$made_with" > "$build/.state"
        show_and_die "$name" "$build/$name.log"
    }
}

compile() {             # MAKE TARGETS...
    local made_with state
    # The recipe too: make does not compile anew when only flags have changed.
    made_with="$root $(openmpi_version) $(gcc --version | head -n 1) $(
        cd "$root" && cat configure.ac Makefile.am m4/pinwheel.m4 {,tests/}*/local.mk | cksum)"
    state=$(cat "$build/.state" 2>/dev/null)
    if [ -n "$state" ] && [ "$state" != "$made_with" ]; then
        say "starting afresh: build/ is of an interrupted run, or made otherwise"
        find "$build" -mindepth 1 -maxdepth 1 ! -name .lock ! -name apt.log ! -name demo ! -name vm \
            -exec rm -rf {} +
        rm -f "$root/configure"
    fi

    echo unfinished > "$build/.state"
    [ -w "$root" ] || [ -e "$root/configure" ] ||
        die "cannot make ./configure: $(id -un) may not write to $root; clone the project into a folder of your own"
    if [ ! -e "$root/configure" ] || [ ! -e "$root/Makefile.in" ]; then
        say "making ./configure"
        step autogen "$root/autogen.sh"
    fi
    if [ ! -e "$build/Makefile" ]; then
        say "configuring in build/"
        step configure env -C "$build" "$root/configure"
    fi
    say "building in build/"
    step make make -C "$build" -j"$(nproc)" "$@"
    echo "$made_with" > "$build/.state"
}

# Packages, configure, make. Concurrent runs take turns.
setup() {               # demo|check MAKE TARGETS...
    local for=$1
    shift
    open_build_directory
    install_packages "$for"
    compile "$@"
    exec 9>&-
}
