# SPDX-License-Identifier: BSD-3-Clause
# The parts of configure that are pinwheel's own, one macro each.

# PW_OPENMPI: the Open MPI to build for. Sets MPICC, MPIRUN, OMPI_INFO,
# OMPI_VERSION, OMPI_CPPFLAGS, OMPI_LIBS, OPAL_LIBS and componentdir.
AC_DEFUN([PW_OPENMPI], [
AC_ARG_WITH([ompi],
    [AS_HELP_STRING([--with-ompi=PREFIX],
        [Open MPI 4.1 installed under PREFIX @<:@the mpicc in PATH@:>@])],
    [], [with_ompi=yes])
AC_ARG_WITH([component-dir],
    [AS_HELP_STRING([--with-component-dir=DIR],
        [install the components into DIR @<:@where that Open MPI looks:
         "ompi_info --path pkglibdir"@:>@])],
    [], [with_component_dir=])

AS_CASE([$with_ompi],
    [no], [AC_MSG_ERROR([pinwheel is an Open MPI plugin and cannot be built without Open MPI])],
    [yes], [pw_mpi_path=$PATH],
    [AS_IF([test -x "$with_ompi/bin/ompi_info"], [],
        [AC_MSG_ERROR([--with-ompi=$with_ompi: there is no $with_ompi/bin/ompi_info])])
     pw_mpi_path=$with_ompi/bin])

# Debian calls it mpicc.openmpi where another MPI has taken the plain name.
pw_mpi_suffix=
AC_PATH_PROG([MPICC], [mpicc], [no], [$pw_mpi_path])
AS_CASE([`"$MPICC" --showme:version 2>/dev/null`], [*"Open MPI"*], [],
    [AS_UNSET([MPICC]); AS_UNSET([ac_cv_path_MPICC])
     pw_mpi_suffix=.openmpi
     AC_PATH_PROG([MPICC], [mpicc.openmpi], [no], [$pw_mpi_path])])
AS_IF([test "$MPICC" = no],
    [AC_MSG_ERROR([Open MPI's mpicc was not found; install it (Debian packages libopenmpi-dev and openmpi-bin) or name its place with --with-ompi=PREFIX])])
pw_mpi_path=`AS_DIRNAME(["$MPICC"])`:$pw_mpi_path
AC_PATH_PROGS([OMPI_INFO], [ompi_info], [no], [$pw_mpi_path])
AC_PATH_PROGS([MPIRUN], [mpirun$pw_mpi_suffix mpirun], [no], [$pw_mpi_path])
AS_IF([test "$OMPI_INFO" = no || test "$MPIRUN" = no],
    [AC_MSG_ERROR([$MPICC is there, but ompi_info or mpirun is not; install them (Debian package openmpi-bin)])])

AC_MSG_CHECKING([for the version of Open MPI])
OMPI_VERSION=`"$OMPI_INFO" --version 2>/dev/null | $SED -n 's/^Open MPI v//p'`
pw_mpicc_version=`"$MPICC" --showme:version 2>/dev/null | $SED -n 's/.*Open MPI \(@<:@^ @:>@*\).*/\1/p'`
AC_MSG_RESULT([${OMPI_VERSION:-unknown}])
AS_CASE([$OMPI_VERSION], [4.1.*], [],
    [AC_MSG_ERROR([found Open MPI ${OMPI_VERSION:-of unknown version} ($OMPI_INFO), but pinwheel needs Open MPI 4.1.x, for another series has other interfaces; name a 4.1 with --with-ompi=PREFIX])])
AS_IF([test "$OMPI_VERSION" = "$pw_mpicc_version"], [],
    [AC_MSG_ERROR([$MPICC belongs to Open MPI ${pw_mpicc_version:-of unknown version}, but $OMPI_INFO to $OMPI_VERSION; put one installation first in PATH or name it with --with-ompi=PREFIX])])

OMPI_CPPFLAGS=
for pw_dir in `"$MPICC" --showme:incdirs`; do
    OMPI_CPPFLAGS="$OMPI_CPPFLAGS -isystem $pw_dir"
done
pw_incdir=`"$OMPI_INFO" --path incdir --parsable | $SED -n 's/^path:incdir://p'`
OPAL_CPPFLAGS="-isystem $pw_incdir -isystem $pw_incdir/openmpi"
OMPI_LIBS=`"$MPICC" --showme:link`
OPAL_LIBS=
for pw_dir in `"$MPICC" --showme:libdirs`; do
    OPAL_LIBS="$OPAL_LIBS -L$pw_dir"
done
OPAL_LIBS="$OPAL_LIBS -lopen-pal"

# Its inline free lists swap 16 bytes at once where the CPU can; Open MPI itself
# is compiled so, and lists that both touch must be handled alike.
OPAL_CFLAGS=
case $host_cpu in
x86_64) OPAL_CFLAGS=-mcx16 ;;
esac

pw_save_cppflags=$CPPFLAGS
CPPFLAGS="$CPPFLAGS $OPAL_CPPFLAGS"
AC_CHECK_HEADER([opal/mca/btl/btl.h], [],
    [AC_MSG_ERROR([Open MPI's component headers (opal/mca/btl/btl.h) are missing under $pw_incdir; install the Debian package libopenmpi-dev, or build Open MPI with --with-devel-headers])],
    [#include "opal_config.h"])
CPPFLAGS=$pw_save_cppflags

componentdir=$with_component_dir
AS_IF([test -z "$componentdir"],
    [componentdir=`"$OMPI_INFO" --path pkglibdir --parsable | $SED -n 's/^path:pkglibdir://p'`])
AS_CASE([$componentdir], [/*], [],
    [AC_MSG_ERROR([the component directory must be an absolute path, not '$componentdir'])])

AC_DEFINE_UNQUOTED([PW_OMPI_VERSION], ["$OMPI_VERSION"], [The Open MPI this was built for])
AC_SUBST([OMPI_VERSION])
AC_SUBST([OMPI_CPPFLAGS])
AC_SUBST([OPAL_CPPFLAGS])
AC_SUBST([OPAL_CFLAGS])
AC_SUBST([OMPI_LIBS])
AC_SUBST([OPAL_LIBS])
AC_SUBST([componentdir])
])

# PW_NIC_LIBRARY(NAME, PKG-CONFIG-NAME, DEBIAN-PACKAGE, BACKEND, [LEAST-VERSION]): look
# for a library of NICs, which --without-PKG-CONFIG-NAME leaves out; HAVE_NAME and
# NAME_VERSION go to config.h, and HAVE_NAME is a conditional. Headers are all that is used
# of it here: it is loaded at run time, where it is found.
AC_DEFUN([PW_NIC_LIBRARY], [
AC_ARG_WITH([$2],
    [AS_HELP_STRING([--without-$2], [leave out what needs $2])],
    [], [with_$2=check])
pw_have_$1=no
AS_IF([test "$with_$2" = no],
    [pw_found_$1="left out (--without-$2)"],
    [PKG_CHECK_MODULES([$1], [$2]m4_ifval([$5], [[ >= $5]]),
        [pw_have_$1=yes
         m4_ifval([$4], [pw_nics="$pw_nics, $4"])
         pw_version=`$PKG_CONFIG --modversion $2`
         AC_DEFINE([HAVE_$1], [1], [Built on a machine with $2])
         AC_DEFINE_UNQUOTED([$1_VERSION], ["$pw_version"], [The version of $2])
         pw_found_$1="$pw_version (m4_ifval([$4], [for the backend $4], [found; no backend uses it yet]))"],
        [AS_IF([test "$with_$2" = check], [],
            [AC_MSG_ERROR([--with-$2 was given, but pkg-config does not find $2 (Debian package $3)])])
         pw_found_$1="not found (Debian package $3)"])])
AM_CONDITIONAL([HAVE_$1], [test "$pw_have_$1" = yes])
])

# PW_MPICH: MPICH's compiler, for a pwbench that measures MPICH beside Open MPI. Sets
# MPICC_MPICH and the conditional HAVE_MPICH. Optional; what does not compile with our
# compiler is as good as not there.
AC_DEFUN([PW_MPICH], [
AC_PATH_PROG([MPICC_MPICH], [mpicc.mpich], [no])
AC_PATH_PROG([MPIRUN_MPICH], [mpirun.mpich], [no])
pw_found_mpich="not found (Debian packages mpich and libmpich-dev); pwbench compares without it"
AS_IF([test "$MPICC_MPICH" != no && test "$MPIRUN_MPICH" != no],
    [AC_MSG_CHECKING([whether $MPICC_MPICH works])
     cat >conftest.c <<_PW_END
#include <mpi.h>
#ifndef MPICH_VERSION
#error another MPI
#endif
int main(void) { return MPI_Finalize(); }
_PW_END
     AS_IF([MPICH_CC="$CC" "$MPICC_MPICH" conftest.c -o conftest >&AS_MESSAGE_LOG_FD 2>&1],
         [pw_found_mpich="$MPICC_MPICH, for pwbench compare"; pw_mpich=yes], [pw_mpich=no])
     rm -f conftest conftest.c
     AC_MSG_RESULT([$pw_mpich])],
    [pw_mpich=no])
AM_CONDITIONAL([HAVE_MPICH], [test "$pw_mpich" = yes])
])

# PW_TOOL_LIBRARY(NAME, PKG-CONFIG-NAME, DEBIAN-PACKAGE): look for a library that a
# tool does more with; without it that tool says what it misses.
AC_DEFUN([PW_TOOL_LIBRARY], [
PKG_CHECK_MODULES([$1], [$2],
    [AC_DEFINE([HAVE_$1], [1], [The tools use $2])
     pw_found_$1=`$PKG_CONFIG --modversion $2`],
    [pw_found_$1="not found (Debian package $3)"])
])

# PW_ARG_SANITIZE: a build of the units and the conformance suite only, for a
# sanitized plugin cannot be loaded into an unsanitized mpirun.
AC_DEFUN([PW_ARG_SANITIZE], [
AC_ARG_ENABLE([sanitize],
    [AS_HELP_STRING([--enable-sanitize=LIST],
        [build the unit and conformance tests only, with these sanitizers:
         "address,undefined" or "thread"])],
    [pw_sanitize=$enableval], [pw_sanitize=no])
AS_CASE([$pw_sanitize],
    [no], [SANITIZE_CFLAGS=],
    [address,undefined|address|undefined|thread],
        [SANITIZE_CFLAGS="-fsanitize=$pw_sanitize -fno-omit-frame-pointer -fno-sanitize-recover=all"],
    [AC_MSG_ERROR([--enable-sanitize takes "address,undefined" or "thread", not "$pw_sanitize"])])
AC_SUBST([SANITIZE_CFLAGS])
AM_CONDITIONAL([BUILD_MODULE], [test "$pw_sanitize" = no])
AM_CONDITIONAL([SANITIZE_THREAD], [test "$pw_sanitize" = thread])
])

# PW_SUMMARY: what will be built, and where it goes.
AC_DEFUN([PW_SUMMARY], [
AS_IF([test "$pw_sanitize" = no],
    [pw_components="mca_btl_pinwheel.so, mca_mpool_pinwheel.so, mca_osc_pinwheel.so"
     pw_tests="unit, nic, mpi"],
    [pw_components="none (sanitizer build)"
     pw_tests="unit, nic"])
AS_IF([test "$enable_build_tests$pw_sanitize" = yesno],
    [pw_tests="$pw_tests, build, sanitize"])
AS_IF([test "$have_criterion" = no],
    [pw_tests="$pw_tests; those that need Criterion are left out (Debian package libcriterion-dev)"])
pw_bindir=`prefix=$prefix; test "$prefix" = NONE && prefix=$ac_default_prefix
           exec_prefix=$exec_prefix; test "$exec_prefix" = NONE && exec_prefix=$prefix
           eval "pw_v=$bindir"; eval "echo $pw_v"`
cat <<_PW_END

pinwheel $PACKAGE_VERSION
  Open MPI      $OMPI_VERSION ($MPICC)
  components    $pw_components
    go to       $componentdir
  tools         pwinfo, pwbench
    go to       $pw_bindir
  NICs          shm, tcp$pw_nics
  libfabric     $pw_found_LIBFABRIC
  UCX           $pw_found_UCX
  libibverbs    $pw_found_IBVERBS
  hwloc         $pw_found_HWLOC
  jansson       $pw_found_JANSSON
  MPICH         $pw_found_mpich
  tests         $pw_tests
  compiler      $CC $CFLAGS
  sanitizers    $pw_sanitize

_PW_END
])
