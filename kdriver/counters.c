// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
/* counters.c - what the driver has done and what it holds, one number in each file of
 * /sys/class/misc/pinwheel/counters.
 */
#include <linux/device.h>
#include <linux/sysfs.h>

#include "pinwheel.h"

atomic64_t pwk_counters[PWK_COUNTERS];

struct counter {
	struct device_attribute attr;
	enum pwk_counter which;
};

static ssize_t show(struct device *dev, struct device_attribute *attr, char *buf)
{
	const struct counter *counter = container_of(attr, struct counter, attr);

	return sysfs_emit(buf, "%lld\n", (long long)atomic64_read(&pwk_counters[counter->which]));
}

#define COUNTER(name_, which_) \
	static struct counter name_ = { \
		.attr = __ATTR(name_, 0444, show, NULL), .which = which_ }

COUNTER(controls, PWK_CONTROLS);
COUNTER(watches, PWK_WATCHES);
COUNTER(exports, PWK_EXPORTS);
COUNTER(mappings, PWK_MAPPINGS);
COUNTER(pools, PWK_POOLS);
COUNTER(export_pages, PWK_EXPORT_PAGES);
COUNTER(pool_pages, PWK_POOL_PAGES);
COUNTER(events_unmap, PWK_EVENTS_UNMAP);
COUNTER(events_discard, PWK_EVENTS_DISCARD);
COUNTER(events_protect, PWK_EVENTS_PROTECT);
COUNTER(events_passed, PWK_EVENTS_PASSED);
COUNTER(faults, PWK_FAULTS);
COUNTER(huge_faults, PWK_HUGE_FAULTS);
COUNTER(late_faults, PWK_LATE_FAULTS);
COUNTER(refused, PWK_REFUSED);

static struct attribute *attrs[] = {
	&controls.attr.attr, &watches.attr.attr, &exports.attr.attr, &mappings.attr.attr,
	&pools.attr.attr, &export_pages.attr.attr, &pool_pages.attr.attr,
	&events_unmap.attr.attr, &events_discard.attr.attr, &events_protect.attr.attr,
	&events_passed.attr.attr, &faults.attr.attr, &huge_faults.attr.attr,
	&late_faults.attr.attr, &refused.attr.attr, NULL
};

static_assert(ARRAY_SIZE(attrs) == PWK_COUNTERS + 1);

static const struct attribute_group group = {
	.name = "counters",
	.attrs = attrs,
};

const struct attribute_group *pwk_counter_groups[] = { &group, NULL };
