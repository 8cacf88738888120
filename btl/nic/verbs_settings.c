/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_settings.c - what a user may set of RDMA connections: btl_pinwheel_verbs_...
 *
 * Numbers are those of InfiniBand, as every device takes them and as other transports name
 * them. They hold for all of the process and are set before a device is looked at.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verbs.h"

struct verbs_settings verbs_settings = {
    .retries = VERBS_RETRIES, .timeout = VERBS_TIMEOUT, .rnr_retries = VERBS_RNR_RETRIES,
    .gid_index = -1,
};

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
_Static_assert(VERBS_RETRIES == 6 && VERBS_TIMEOUT == 17 && VERBS_RNR_RETRIES == 7 &&
               VERBS_QPS_LEAST == 8 && VERBS_QPS_MOST == 1024,
               "the texts below say the same");

const struct pw_nic_setting verbs_settings_list[] = {
    { "retries", "6",
      "How often an RDMA device sends again what is not acknowledged, 0 to 7; then the "
      "connection has failed. Ports that the kernel makes (rxe) take 7 for ever" },
    { "timeout", "17",
      "How long an RDMA device waits for an acknowledgement before it sends again: 4.096 us "
      "times two to the power of this, 1 to 31. 17: 537 ms" },
    { "rnr_retries", "7",
      "How often an RDMA device sends again what the peer had no buffer for (receiver not "
      "ready), 0 to 6, each time after 0.64 ms; then the connection has failed. 7: for as "
      "long as the peer lives" },
    { "mtu", "0",
      "Largest packet of RDMA connections in bytes: 256, 512, 1024, 2048 or 4096. 0: what "
      "both ports can; of two hosts the lesser counts" },
    { "gid", "auto",
      "The GID by which peers know a port of RDMA: its number in the port's table; or the "
      "best of one kind, roce2-ipv4, roce2-ipv6 or roce1; auto: the best of all. Alike in "
      "kind on all hosts. pwinfo tells which it is" },
    { "connections", "0",
      "Most connections of an RDMA port that this process has open at a time, 1 to 65535: "
      "above that the one used least recently is closed where nothing is under way, and made "
      "anew when it is needed. 0: the device's queue pairs divided by the host's processors, "
      "8 to 1024" },
    { "pkey_index", "0",
      "Number of the partition key in the table of an RDMA port; its value is to be alike on "
      "all hosts. 0: the first, which is everybody's" },
    { NULL, NULL, NULL },
};

static bool number_read(const char *text, unsigned least, unsigned most, unsigned *out)
{
    unsigned long n;
    char *end;

    if (!text || *text < '0' || *text > '9' || strlen(text) > 9)
        return false;
    n = strtoul(text, &end, 10);
    if (*end || n < least || n > most)
        return false;
    *out = (unsigned)n;
    return true;
}

/* As enum ibv_mtu. */
static bool mtu_read(const char *text, unsigned *out)
{
    unsigned bytes;

    if (!number_read(text, 0, 4096, &bytes))
        return false;
    *out = 0;
    if (!bytes)
        return true;
    for (unsigned mtu = IBV_MTU_256; mtu <= IBV_MTU_4096; mtu++)
        if (bytes == 128u << mtu)
            *out = mtu;
    return *out;
}

static bool gid_read(const char *text, int *index, enum verbs_link *kind)
{
    static const struct {
        const char *name;
        enum verbs_link kind;
    } kinds[] = { { "auto", VERBS_NOWHERE }, { "roce1", VERBS_ROCE1 },
                  { "roce2-ipv4", VERBS_ROCE2_IPV4 }, { "roce2-ipv6", VERBS_ROCE2_IPV6 } };
    unsigned n;

    *index = -1;
    *kind = VERBS_NOWHERE;
    if (number_read(text, 0, UINT8_MAX, &n)) {
        *index = (int)n;
        return true;
    }
    for (size_t i = 0; text && i < sizeof(kinds) / sizeof(*kinds); i++)
        if (!strcmp(text, kinds[i].name)) {
            *kind = kinds[i].kind;
            return true;
        }
    return false;
}

/* NULL, or what it must be. Nothing is changed then. */
static const char *read_into(struct verbs_settings *s, const char *name, const char *text)
{
    if (!strcmp(name, "retries"))
        return number_read(text, 0, 7, &s->retries) ? NULL : "a number from 0 to 7";
    if (!strcmp(name, "timeout"))
        return number_read(text, 1, 31, &s->timeout) ? NULL : "a number from 1 to 31";
    if (!strcmp(name, "rnr_retries"))
        return number_read(text, 0, 7, &s->rnr_retries) ? NULL : "a number from 0 to 7";
    if (!strcmp(name, "mtu"))
        return mtu_read(text, &s->mtu) ? NULL : "0, 256, 512, 1024, 2048 or 4096";
    if (!strcmp(name, "connections"))
        return number_read(text, 0, UINT16_MAX, &s->qps) ? NULL : "a number from 0 to 65535";
    if (!strcmp(name, "pkey_index"))
        return number_read(text, 0, UINT16_MAX, &s->pkey_index) ? NULL
                                                                : "a number from 0 to 65535";
    return gid_read(text, &s->gid_index, &s->gid_kind)
               ? NULL : "auto, roce1, roce2-ipv4, roce2-ipv6 or a number from 0 to 255";
}

int verbs_set(const struct pw_nic_setting *setting, const char *text,
              char why[PW_NIC_WHY_MAX])
{
    struct verbs_settings changed = verbs_settings;
    const char *right;

    right = read_into(&changed, setting->name, text);
    if (!right) {
        verbs_settings = changed;
        return 0;
    }
    snprintf(why, PW_NIC_WHY_MAX, "btl_pinwheel_verbs_%s=%.60s: must be %s; leave it out for"
             " %s", setting->name, text ? text : "", right, setting->initial);
    return -EINVAL;
}
