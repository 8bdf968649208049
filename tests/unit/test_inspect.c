/*
 * test_inspect.c - a page of the bus's channels: order, limits, and what does not count.
 */
#include "unit.h"

#include "base/mem.h"
#include "domain/bus_priv.h"
#include "domain/inspect.h"

#include <stdio.h>
#include <stdlib.h>

static const struct config_namespace quotes = {.mode = MODE_LATEST};

static void add(struct bus *b, const char *name, uint64_t workers)
{
    struct slice text = slice_str(name);
    struct bus_channel *c = mem_zalloc(sizeof *c + text.len);
    c->ns = &quotes;
    c->workers = workers;
    c->name_len = (uint8_t)text.len;
    memcpy(c->name, text.ptr, text.len);
    c->hash = map_hash(text);
    map_put(&b->channels, c->hash, bus_channel_name(c), c);
}

static void empty(struct bus *b)
{
    size_t it = 0;
    struct bus_channel *c;
    while ((c = map_next(&b->channels, &it)) != NULL) {
        map_del(&b->channels, c->hash, bus_channel_name(c));
        free(c);
    }
    map_fini(&b->channels);
}

/* The names of a page, a space behind each, then the total. */
static const char *page_of(const struct bus *b, const char *prefix, const char *after, size_t limit)
{
    static char text[512];
    struct channel_page page = inspect_channels(b, slice_str(prefix), slice_str(after), limit);
    size_t at = 0;
    for (size_t i = 0; i < page.count; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s ", page.views[i].name);
    snprintf(text + at, sizeof text - at, "%llu", (unsigned long long)page.total);
    free(page.views);
    return text;
}

static void test_pages(void)
{
    struct bus b = {0};
    CU_ASSERT_STRING_EQUAL(page_of(&b, "", "", 10), "0");
    static const char *const names[] = {"q:C", "t:A", "q:AA", "q:B", "q:A", "q:D"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        add(&b, names[i], 1);
    add(&b, "q:lingering", 0);
    CU_ASSERT_STRING_EQUAL(page_of(&b, "", "", 10), "q:A q:AA q:B q:C q:D t:A 6");
    CU_ASSERT_STRING_EQUAL(page_of(&b, "q:", "", 10), "q:A q:AA q:B q:C q:D 5");
    CU_ASSERT_STRING_EQUAL(page_of(&b, "q:", "", 2), "q:A q:AA 5");
    CU_ASSERT_STRING_EQUAL(page_of(&b, "q:", "q:AA", 2), "q:B q:C 5");
    CU_ASSERT_STRING_EQUAL(page_of(&b, "", "t:A", 2), "6");
    CU_ASSERT_STRING_EQUAL(page_of(&b, "x", "", 2), "0");
    CU_ASSERT_STRING_EQUAL(page_of(&b, "q:A and much longer", "", 2), "0");
    empty(&b);
}

/* Walking page by page meets every channel once, in order, whatever the order of the map. */
static void test_all_pages_make_the_whole(void)
{
    struct bus b = {0};
    char name[24], last[CHANNEL_BYTES_MAX + 1] = "";
    size_t seen = 0, count;
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "q:%u", i * 7919);
        add(&b, name, 1);
    }
    do {
        struct channel_page page = inspect_channels(&b, slice_str("q"), slice_str(last), 37);
        CU_ASSERT_EQUAL(page.total, 1000);
        for (size_t i = 0; i < page.count; i++) {
            CU_ASSERT(strcmp(last, page.views[i].name) < 0);
            snprintf(last, sizeof last, "%s", page.views[i].name);
        }
        seen += count = page.count;
        free(page.views);
    } while (count > 0 && seen <= 1000);
    CU_ASSERT_EQUAL(seen, 1000);
    empty(&b);
}

static const struct unit_test tests[] = {
    {"pages", test_pages},
    {"all_pages_make_the_whole", test_all_pages_make_the_whole},
    {0},
};

const struct unit_suite suite_inspect = {"inspect", tests};
