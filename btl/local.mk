# SPDX-License-Identifier: BSD-3-Clause
# The NIC backends, the core, and the Open MPI components made of both.

noinst_LTLIBRARIES += libpwnic.la
libpwnic_la_SOURCES = \
	btl/nic/backends.c \
	btl/nic/ifaces.c \
	btl/nic/ifaces.h \
	btl/nic/ifaces_ip.c \
	btl/nic/ifaces_kernel.c \
	btl/nic/ifaces_kernel.h \
	btl/nic/ifaces_parse.c \
	btl/nic/ifaces_parse.h \
	btl/nic/ifaces_route.c \
	btl/nic/ifaces_watch.c \
	btl/nic/shm.c \
	btl/nic/shm.h \
	btl/nic/shm_attach.c \
	btl/nic/shm_attach.h \
	btl/nic/shm_barrier.c \
	btl/nic/shm_distrust.c \
	btl/nic/shm_events.c \
	btl/nic/shm_link.c \
	btl/nic/shm_queue.c \
	btl/nic/shm_reach.c \
	btl/nic/shm_share.c \
	btl/nic/shm_part.h \
	btl/nic/shm_ring.h \
	btl/nic/tcp.c \
	btl/nic/tcp.h \
	btl/nic/tcp_address.c \
	btl/nic/tcp_bulk.c \
	btl/nic/tcp_link.c \
	btl/nic/tcp_recv.c \
	btl/nic/tcp_send.c \
	btl/nic/tcp_lend.c \
	btl/nic/tcp_past.c \
	btl/nic/tcp_serve.c \
	btl/nic/tcp_socket.c \
	btl/nic/tcp_thread.c \
	btl/nic/tcp_watch.c \
	btl/nic/tcp_wire.h

rdm_sources = \
	btl/nic/rdm.c \
	btl/nic/rdm.h \
	btl/nic/rdm_buffers.c \
	btl/nic/rdm_events.c \
	btl/nic/rdm_library.c \
	btl/nic/rdm_library.h \
	btl/nic/rdm_ports.c \
	btl/nic/rdm_ports.h \
	btl/nic/rdm_link.c \
	btl/nic/rdm_listen.c \
	btl/nic/rdm_lock.c btl/nic/rdm_lock.h \
	btl/nic/rdm_memory.c \
	btl/nic/rdm_send.c \
	btl/nic/rdm_stream.c \
	btl/nic/rdm_turn.c \
	btl/nic/rdm_wire.h

ofi_sources = \
	btl/nic/ofi.c \
	btl/nic/ofi.h \
	btl/nic/ofi_library.c \
	btl/nic/ofi_port.c \
	btl/nic/ofi_test.c

ucx_sources = \
	btl/nic/ucx.c \
	btl/nic/ucx.h \
	btl/nic/ucx_library.c \
	btl/nic/ucx_memory.c \
	btl/nic/ucx_port.c \
	btl/nic/ucx_test.c

verbs_sources = \
	btl/nic/verbs.c \
	btl/nic/verbs.h \
	btl/nic/verbs_conn.c \
	btl/nic/verbs_devices.c \
	btl/nic/verbs_letter.c \
	btl/nic/verbs_library.c \
	btl/nic/verbs_memory.c \
	btl/nic/verbs_port.c \
	btl/nic/verbs_rest.c \
	btl/nic/verbs_route.c \
	btl/nic/verbs_settings.c \
	btl/nic/verbs_wire.h \
	btl/nic/verbs_work.c

# Where a library's headers are; the library itself is loaded when it is needed.
if HAVE_LIBFABRIC
libpwnic_la_SOURCES += $(ofi_sources)
endif
if HAVE_UCX
libpwnic_la_SOURCES += $(ucx_sources)
endif
if HAVE_IBVERBS
libpwnic_la_SOURCES += $(verbs_sources)
endif
if HAVE_RDM
libpwnic_la_SOURCES += $(rdm_sources)
endif

noinst_LTLIBRARIES += libpwcore.la
libpwcore_la_SOURCES = \
	btl/core/adapt.c \
	btl/core/adapt.h \
	btl/core/address.c \
	btl/core/address.h \
	btl/core/connect.c \
	btl/core/core.h \
	btl/core/costs.c \
	btl/core/costs.h \
	btl/core/costs_file.c \
	btl/core/costs_file.h \
	btl/core/endpoint.c \
	btl/core/engine.c \
	btl/core/engine.h \
	btl/core/failover.c \
	btl/core/guard.c \
	btl/core/guard.h \
	btl/core/idle.c \
	btl/core/idle.h \
	btl/core/measure.c \
	btl/core/measure.h \
	btl/core/metrics.c \
	btl/core/metrics.h \
	btl/core/nics.c \
	btl/core/ops.c \
	btl/core/path.c \
	btl/core/path.h \
	btl/core/pinning.c \
	btl/core/rails.c \
	btl/core/rails.h \
	btl/core/regions.c \
	btl/core/rescue.c \
	btl/core/rescue.h \
	btl/core/samples.c \
	btl/core/samples.h \
	btl/core/select.c \
	btl/core/select.h \
	btl/core/serve.c \
	btl/core/share.c \
	btl/core/share.h \
	btl/core/stripe.c \
	btl/core/stripe.h \
	btl/core/transfer.c

if BUILD_MODULE
# -z now: Open MPI opens components lazily, and a symbol that is missing is to
# stop the load, not the first call. -Bsymbolic: components are opened globally;
# should somebody copy one file to all names, none is to use another's part.
component_LTLIBRARIES += mca_btl_pinwheel.la
mca_btl_pinwheel_la_SOURCES = \
	btl/calibrate.c \
	btl/far.c \
	btl/compat.h \
	btl/component.c \
	btl/module.c \
	btl/mpool.c \
	btl/osc.c \
	btl/osc.h \
	btl/osc_dynamic.c \
	btl/osc_units.c \
	btl/params.c \
	btl/params.h \
	btl/pinwheel.h \
	btl/procs.c \
	btl/windows.c \
	btl/pvars.c \
	btl/rdma.c \
	btl/costs.c \
	btl/limits.h \
	btl/report.c \
	btl/send.c
mca_btl_pinwheel_la_CPPFLAGS = $(AM_CPPFLAGS) $(OPAL_CPPFLAGS)
mca_btl_pinwheel_la_CFLAGS = $(AM_CFLAGS) $(OPAL_CFLAGS)
mca_btl_pinwheel_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared \
	-Wl,-z,now -Wl,-z,defs -Wl,-Bsymbolic -Wl,-rpath,$(libdir)
mca_btl_pinwheel_la_LIBADD = $(pw_libs) $(OPAL_LIBS) $(OMPI_LIBS)

# The same object under all names: Open MPI finds a component by its file's
# name. This directory serves jobs that run from the build tree.
component_links = components/mca_mpool_pinwheel.so components/mca_osc_pinwheel.so
noinst_DATA += components/mca_btl_pinwheel.so $(component_links)
CLEANFILES += components/mca_btl_pinwheel.so $(component_links)

components/mca_btl_pinwheel.so: mca_btl_pinwheel.la
	$(AM_V_GEN)mkdir -p components && ln -sf ../.libs/mca_btl_pinwheel.so $@
$(component_links): components/mca_btl_pinwheel.so
	$(AM_V_GEN)ln -sf mca_btl_pinwheel.so $@

clean-local:
	-rmdir components

install-data-hook:
	cd '$(DESTDIR)$(componentdir)' && rm -f mca_btl_pinwheel.la && \
	    ln -sf mca_btl_pinwheel.so mca_mpool_pinwheel.so && \
	    ln -sf mca_btl_pinwheel.so mca_osc_pinwheel.so

# Without the .la file libtool does not know what it had installed.
uninstall-hook:
	rm -f '$(DESTDIR)$(componentdir)/mca_btl_pinwheel.so' \
	      '$(DESTDIR)$(componentdir)/mca_mpool_pinwheel.so' \
	      '$(DESTDIR)$(componentdir)/mca_osc_pinwheel.so'
endif
