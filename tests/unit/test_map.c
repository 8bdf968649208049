/*
 * test_map.c - the hash map: contents against a model, tombstones, iteration, and the hash against
 * values computed by CPython 3.11, whose bytes hash is SipHash-1-3 (PYTHONHASHSEED=0: zero key).
 */
#include "base/map.h"

#include "base/rng.h"
#include "unit.h"

#include <pthread.h>
#include <stdio.h>

static void *get(const struct map *m, const char *key)
{
    return map_get(m, map_hash(slice_str(key)), slice_str(key));
}

static void *put(struct map *m, const char *key, void *value)
{
    return map_put(m, map_hash(slice_str(key)), slice_str(key), value);
}

static void *del(struct map *m, const char *key)
{
    return map_del(m, map_hash(slice_str(key)), slice_str(key));
}

static void hashes_like_others(void)
{
    CU_ASSERT_EQUAL(map_hash_seeded(slice_str("a"), 0, 0), 0x407448d2b89b1813u);
    CU_ASSERT_EQUAL(map_hash_seeded(slice_str("quote:A"), 0, 0), 0x375aa932ef998726u);
    CU_ASSERT_EQUAL(map_hash_seeded(slice_str("quote:AB"), 0, 0), 0x4d403f5bf38d514cu);
    CU_ASSERT_EQUAL(map_hash_seeded(slice_str("quote:AAPL"), 0, 0), 0x94b481d00586209du);
    CU_ASSERT_EQUAL(map_hash_seeded(slice_str("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"), 0, 0),
                    0x003e6ede9d87d836u);
    /* The seed matters in both halves, and the process has one of its own. */
    CU_ASSERT_NOT_EQUAL(map_hash_seeded(slice_str("a"), 1, 0), 0x407448d2b89b1813u);
    CU_ASSERT_NOT_EQUAL(map_hash_seeded(slice_str("a"), 0, 1), 0x407448d2b89b1813u);
    CU_ASSERT_NOT_EQUAL(map_hash(slice_str("a")), 0x407448d2b89b1813u);
}

static void *hash_in_thread(void *arg)
{
    *(uint64_t *)arg = map_hash(slice_str("quote:AAPL"));
    return NULL;
}

static void hashes_the_same_in_every_thread(void)
{
    uint64_t hashes[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, hash_in_thread, &hashes[i]);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        CU_ASSERT_EQUAL(hashes[i], map_hash(slice_str("quote:AAPL")));
    }
}

static void empty_map_holds_nothing(void)
{
    struct map m = {0};
    size_t it = 0;
    CU_ASSERT_PTR_NULL(get(&m, "a"));
    CU_ASSERT_PTR_NULL(del(&m, "a"));
    CU_ASSERT_PTR_NULL(map_next(&m, &it));
    map_fini(&m);
    int one;
    put(&m, "a", &one);
    CU_ASSERT_PTR_EQUAL(del(&m, "a"), &one);
    CU_ASSERT_EQUAL(m.cap, 0); /* the last one gone, the memory is, too */
    CU_ASSERT_PTR_NULL(get(&m, "a"));
}

static void puts_replaces_and_deletes(void)
{
    struct map m = {0};
    int one, two;
    char key_one[] = "key", key_two[] = "key";
    CU_ASSERT_PTR_NULL(put(&m, key_one, &one));
    CU_ASSERT_PTR_EQUAL(put(&m, key_two, &two), &one);
    key_one[0] = 'x'; /* the key that came with the value that counts is the one that is kept */
    CU_ASSERT_PTR_EQUAL(get(&m, "key"), &two);
    CU_ASSERT_EQUAL(m.count, 1);
    CU_ASSERT_PTR_NULL(put(&m, "", &one)); /* an empty key is a key */
    CU_ASSERT_PTR_EQUAL(map_get(&m, map_hash(slice_of(NULL, 0)), slice_of(NULL, 0)), &one);
    CU_ASSERT_PTR_EQUAL(del(&m, "key"), &two);
    CU_ASSERT_PTR_NULL(del(&m, "key"));
    CU_ASSERT_PTR_EQUAL(get(&m, ""), &one);
    map_fini(&m);
}

static void keeps_keys_apart_whose_hashes_collide(void)
{
    struct map m = {0};
    static const char *const keys[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};
    int values[10];
    for (int i = 0; i < 10; i++)
        CU_ASSERT_PTR_NULL(map_put(&m, 7, slice_str(keys[i]), &values[i]));
    CU_ASSERT_PTR_EQUAL(map_del(&m, 7, slice_str("c")), &values[2]);
    for (int i = 0; i < 10; i++)
        CU_ASSERT_PTR_EQUAL(map_get(&m, 7, slice_str(keys[i])), i == 2 ? NULL : &values[i]);
    CU_ASSERT_PTR_NULL(map_get(&m, 7, slice_str("ab")));
    /* The freed place is used again and does not hide a later entry of the same key. */
    CU_ASSERT_PTR_EQUAL(map_put(&m, 7, slice_str("j"), &values[2]), &values[9]);
    CU_ASSERT_PTR_NULL(map_put(&m, 7, slice_str("c"), &values[9]));
    CU_ASSERT_EQUAL(m.count, 10);
    map_fini(&m);
}

#define MODEL_KEYS 300

/* Random puts and deletes against a plain array. */
static void agrees_with_a_model(void)
{
    static char keys[MODEL_KEYS][16];
    static char values[MODEL_KEYS * 2];
    void *model[MODEL_KEYS] = {0};
    struct map m = {0};
    struct rng rng;
    rng_init_seed(&rng, 1);
    for (int i = 0; i < MODEL_KEYS; i++)
        snprintf(keys[i], sizeof keys[i], "k%d", i);
    size_t count = 0, wrong = 0;
    for (int step = 0; step < 100000; step++) {
        size_t k = rng_below(&rng, MODEL_KEYS);
        /* Phases in which the map mostly grows and mostly shrinks, down to nothing. */
        bool adds = rng_below(&rng, 10) < (step / 5000 % 2 == 0 ? 8u : 2u);
        void *value = adds ? &values[rng_below(&rng, sizeof values)] : NULL;
        void *before = adds ? put(&m, keys[k], value) : del(&m, keys[k]);
        wrong += before != model[k];
        count += (model[k] == NULL) & adds;
        count -= (model[k] != NULL) & !adds;
        model[k] = value;
        size_t other = rng_below(&rng, MODEL_KEYS);
        wrong += get(&m, keys[other]) != model[other] || m.count != count || m.used > m.cap;
    }
    CU_ASSERT_EQUAL(wrong, 0);
    map_fini(&m);
}

static void leaves_no_tombstone_where_none_is_needed(void)
{
    struct map m = {0};
    int value;
    map_put(&m, 0, slice_str("a"), &value);
    map_put(&m, 3, slice_str("b"), &value);
    map_put(&m, 3, slice_str("c"), &value);
    map_del(&m, 3, slice_str("b")); /* on the way to c */
    CU_ASSERT_EQUAL(m.used, 3);
    map_del(&m, 3, slice_str("c")); /* at the end of its way */
    CU_ASSERT_EQUAL(m.used, 2);
    map_fini(&m);
}

static void churn_does_not_grow_the_table(void)
{
    struct map m = {0};
    char keys[64][16];
    int value;
    size_t most = 0;
    for (unsigned i = 0; i < 50000; i++) { /* never more than four alive */
        char *key = keys[i % 64];
        snprintf(key, sizeof keys[0], "s%u", i);
        put(&m, key, &value);
        if (i >= 4)
            CU_ASSERT_PTR_NOT_NULL_FATAL(del(&m, keys[(i - 4) % 64]));
        if (m.cap > most)
            most = m.cap;
    }
    CU_ASSERT(most <= 16);
    map_fini(&m);
}

static void shrinks_when_rebuilt(void)
{
    static char keys[2000][16];
    struct map m = {0};
    for (int i = 0; i < 2000; i++) {
        snprintf(keys[i], sizeof keys[i], "%d", i);
        put(&m, keys[i], keys[i]);
    }
    size_t large = m.cap;
    for (int i = 0; i < 1995; i++)
        del(&m, keys[i]);
    for (int round = 0; round < 4000; round++) {
        char *key = keys[round % 1995];
        put(&m, key, key);
        del(&m, key);
    }
    CU_ASSERT(large >= 2000);
    CU_ASSERT(m.used <= m.cap / 4 * 3);
    CU_ASSERT_PTR_EQUAL(get(&m, "1999"), keys[1999]);
    map_fini(&m);
}

static void iterates_over_each_once_while_deleting(void)
{
    struct map m = {0};
    char keys[50][16];
    int seen[50] = {0};
    for (int i = 0; i < 50; i++) {
        snprintf(keys[i], sizeof keys[i], "%d", i);
        put(&m, keys[i], keys[i]);
    }
    size_t it = 0, rounds = 0;
    for (char *key; (key = map_next(&m, &it)) != NULL; rounds++) {
        seen[(key - keys[0]) / (ptrdiff_t)sizeof keys[0]]++;
        CU_ASSERT_PTR_EQUAL(del(&m, key), key);
    }
    CU_ASSERT_EQUAL(rounds, 50);
    for (int i = 0; i < 50; i++)
        CU_ASSERT_EQUAL(seen[i], 1);
    CU_ASSERT_EQUAL(m.count, 0);
    CU_ASSERT_EQUAL(m.cap, 0);
}

static const struct unit_test tests[] = {
    {"hashes like others", hashes_like_others},
    {"hashes the same in every thread", hashes_the_same_in_every_thread},
    {"an empty map holds nothing", empty_map_holds_nothing},
    {"puts, replaces and deletes", puts_replaces_and_deletes},
    {"keeps keys apart whose hashes collide", keeps_keys_apart_whose_hashes_collide},
    {"agrees with a model", agrees_with_a_model},
    {"leaves no tombstone where none is needed", leaves_no_tombstone_where_none_is_needed},
    {"churn does not grow the table", churn_does_not_grow_the_table},
    {"shrinks when rebuilt", shrinks_when_rebuilt},
    {"iterates over each once while deleting", iterates_over_each_once_while_deleting},
    {NULL, NULL},
};
const struct unit_suite suite_map = {"map", tests};
