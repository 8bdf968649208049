/*
 * test_config_address.c - `host:port` and what is not quite it.
 */
#include "unit.h"

#include "protocol/config.h"

#include <string.h>

static void test_split_address(void)
{
    static const struct {
        const char *text;
        const char *host; /* NULL: malformed */
        uint16_t port;
    } cases[] = {
        {"0.0.0.0:8080", "0.0.0.0", 8080},
        {"[::1]:8080", "::1", 8080},
        {"[::]:0", "::", 0},
        {"host-1.example:65535", "host-1.example", 65535},
        {"localhost:0", "localhost", 0},
        {"", NULL, 0},
        {":", NULL, 0},
        {":80", NULL, 0},
        {"host", NULL, 0},
        {"host:", NULL, 0},
        {"host:x", NULL, 0},
        {"host:65536", NULL, 0},
        {"host:000080", NULL, 0},
        {"host:+80", NULL, 0},
        {"host:80 ", NULL, 0},
        {"ho st:80", NULL, 0},
        {"::1:80", NULL, 0},
        {"[::1]", NULL, 0},
        {"[::1]80", NULL, 0},
        {"[::1:80", NULL, 0},
        {"[]:80", NULL, 0},
        {"[host]:80", NULL, 0},
        {"[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb]:80", NULL, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char host[64];
        uint16_t port = 1;
        bool good = config_split_address(cases[i].text, host, sizeof host, &port);
        CU_ASSERT_EQUAL(good, cases[i].host != NULL);
        if (!good || cases[i].host == NULL)
            continue;
        CU_ASSERT_STRING_EQUAL(host, cases[i].host);
        CU_ASSERT_EQUAL(port, cases[i].port);
    }
    char small[5];
    uint16_t port;
    CU_ASSERT_TRUE(config_split_address("127.0.0.1:80", small, sizeof small, &port));
    CU_ASSERT_STRING_EQUAL(small, "127.");
}

static const struct unit_test tests[] = {
    {"split_address", test_split_address},
    {0},
};

const struct unit_suite suite_config_address = {"config_address", tests};
