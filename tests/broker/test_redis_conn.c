/* test_redis_conn.c: a connection to Redis comes about, says why it does not, and comes back: by socket, TCP and TLS;
 * cut after every byte. */
#include "bridgehead.h"
#include "folder.h"
#include "proxy.h"
#include "redis.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

Test(redis_conn, a_config_that_is_wrong_is_told_when_it_is_opened)
{
    static const struct {
        const char *broker, *ca, *cert, *key, *told;
    } rows[] = {
        {"redis://host:x", "", "", "", "broker has a port that is none"},
        {"file:/tmp", "", "", "", "broker is no Redis"},
        {"rediss://host", "/nowhere/ca.crt", "", "", "tls_ca /nowhere/ca.crt: No such file"},
        {"rediss://host", "/etc/passwd", "", "", "tls_ca /etc/passwd"},
        {"rediss://host", "", "/nowhere/a.crt", "", "tls_cert is set, tls_key is not"},
        {"rediss://host", "", "", "/nowhere/a.key", "tls_key is set, tls_cert is not"},
        {"rediss://host", "", "/nowhere/a.crt", "/nowhere/a.key", "tls_cert /nowhere/a.crt: No such file"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct backend *backend = NULL;
        const struct backend_callbacks callbacks = {0};
        struct config config = {0};
        char error[EVBUS_ERROR_MAX] = "";
        snprintf(config.broker, sizeof config.broker, "%s", rows[i].broker);
        snprintf(config.tls_ca, sizeof config.tls_ca, "%s", rows[i].ca);
        snprintf(config.tls_cert, sizeof config.tls_cert, "%s", rows[i].cert);
        snprintf(config.tls_key, sizeof config.tls_key, "%s", rows[i].key);
        cr_assert_eq(backend_redis.open(&backend, &config, BRIDGEHEAD_ORIGIN, &callbacks, NULL, error), EVBUS_ECONFIG,
                     "%s", rows[i].told);
        cr_assert_not_null(strstr(error, rows[i].told), "%s: %s", rows[i].told, error);
        cr_assert_null(backend);
    }
}

/* --- it comes about ----------------------------------------------------------------------------------------------- */

static void see_that_it_works(struct bridgehead *head)
{
    const uint64_t position = 4;
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->whys);
    cr_assert_eq(bridgehead_append(head, BRIDGEHEAD_TOPIC, 0, 1, &position), BACKEND_OK, "%s", head->append_why);
    bridgehead_close(head);
}

Test(redis_conn, by_a_unix_socket)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_make(server.url);
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->why);
    cr_assert_not_null(strstr(redis_server_ask(&server, "CLIENT LIST"), "name=evbus-bridge-out"));
    see_that_it_works(head);
}

Test(redis_conn, by_tcp_by_address_and_by_name)
{
    struct redis_server server = redis_server_start_tcp(NULL);
    static const char *const hosts[] = {"127.0.0.1", "localhost"};
    for (size_t i = 0; i < 2; i++) {
        char url[64];
        snprintf(url, sizeof url, "redis://%s:%u", hosts[i], (unsigned)server.port);
        struct bridgehead *head = bridgehead_make(url);
        bridgehead_open(head);
        see_that_it_works(head);
    }
}

Test(redis_conn, a_name_that_is_none_is_told)
{
    struct bridgehead *head = bridgehead_make("redis://no-such-host.invalid");
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->n_states > 0));
    cr_assert_not(head->is_here);
    cr_assert_eq(strncmp(head->why, "no-such-host.invalid:6379: ", 27), 0, "%s", head->why);
    bridgehead_close(head);
}

Test(redis_conn, a_name_is_asked_for_beside_and_may_be_left_alone)
{
    int before = folder_descriptors();
    for (unsigned i = 0; i < 20; i++) {
        struct bridgehead *head = bridgehead_make("redis://no-such-host.invalid");
        bridgehead_open(head);
        bridgehead_pump(head);
        bridgehead_pump(head);
        bridgehead_close(head);
    }
    cr_assert(await_that(folder_descriptors() == before), "who asked has ended, too, and has left nothing open");
}

Test(redis_conn, where_nobody_is_it_is_told_once_and_tried_until_somebody_is)
{
    struct redis_server server = redis_server_start(NULL);
    redis_server_kill(&server);
    struct bridgehead *head = bridgehead_make(server.url);
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->n_states > 0));
    cr_assert_not_null(strstr(head->why, "is Redis running there?"), "%s", head->why);
    redis_server_again(&server);
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->whys);
    redis_server_kill(&server);
    cr_assert(bridgehead_await(head, !head->is_here));
    redis_server_again(&server);
    see_that_it_works(head);
}

/* How often a server that is none was connected to; it says something and hangs up. */
struct liar {
    struct sockaddr_un address;
    const char *says;
    volatile unsigned *n;
    int fd;
};

static int be_liar(void *context)
{
    const struct liar *liar = context;
    for (;;) {
        int fd = accept(liar->fd, NULL, NULL);
        if (fd < 0)
            return 1;
        ++*liar->n;
        char question[4096];
        if (recv(fd, question, sizeof question, 0) > 0)
            send(fd, liar->says, strlen(liar->says), MSG_NOSIGNAL);
        close(fd);
    }
}

static struct child start_liar(struct liar *liar, const struct folder *folder, const char *says)
{
    liar->address.sun_family = AF_UNIX;
    snprintf(liar->address.sun_path, sizeof liar->address.sun_path, "%.80s/liar.sock", folder->path);
    unlink(liar->address.sun_path);
    liar->says = says;
    liar->n = child_shared(sizeof *liar->n);
    liar->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(liar->fd, (const struct sockaddr *)&liar->address, sizeof liar->address), 0);
    cr_assert_eq(listen(liar->fd, 8), 0);
    return child_start(be_liar, liar);
}

Test(redis_conn, what_is_no_redis_is_told)
{
    static const struct {
        const char *says, *told;
    } rows[] = {
        {"HTTP/1.1 400 Bad Request\r\n\r\n", "what it says is no Redis' reply"},
        {"*99999999\r\n", "a reply has more elements than we take"},
        {"+OK\r\n+OK\r\n", "is this a Redis?"},
        {"+OK", "it has ended the connection"},
        {"-ERR max number of clients reached\r\n", "ERR max number of clients reached"},
    };
    struct folder folder = folder_make();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct liar liar = {0};
        char url[200];
        struct child child = start_liar(&liar, &folder, rows[i].says);
        snprintf(url, sizeof url, "unix://%s", liar.address.sun_path);
        struct bridgehead *head = bridgehead_make(url);
        bridgehead_open(head);
        cr_assert(bridgehead_await(head, strstr(head->whys, rows[i].told) != NULL), "%s: %s", rows[i].says, head->whys);
        cr_assert_not(head->is_here);
        bridgehead_close(head);
        child_kill(&child);
        close(liar.fd);
    }
}

Test(redis_conn, it_is_tried_after_50_ms_then_ever_more_rarely)
{
    struct folder folder = folder_make();
    struct liar liar = {0};
    char url[200];
    struct child child = start_liar(&liar, &folder, "-ERR no\r\n");
    snprintf(url, sizeof url, "unix://%s", liar.address.sun_path);
    struct bridgehead *head = bridgehead_make(url);
    bridgehead_open(head);
    uint64_t begin_ms = await_now_ms(), at_ms[6] = {0};
    for (unsigned i = 0; i < 6; i++) {
        cr_assert(bridgehead_await(head, *liar.n > i));
        at_ms[i] = await_now_ms();
    }
    /* the shortest that may be between them: half of 50, 100, 200, 400, 800 ms; a busy machine makes it longer only */
    cr_assert_geq(at_ms[5] - begin_ms, 25 + 50 + 100 + 200 + 400);
    cr_assert_eq(head->n_states, 1, "told once, however often it is tried: %s", head->whys);
    bridgehead_close(head);
    child_kill(&child);
}

Test(redis_conn, it_comes_back_wherever_the_beginning_is_cut, .timeout = 300)
{
    struct redis_server server = redis_server_start(NULL);
    struct proxy proxy = proxy_start(server.dir, server.socket);
    struct bridgehead *head = bridgehead_start_reading(proxy.url);
    uint64_t all = proxy_replies(&proxy);
    cr_assert_gt(all, 3000, "INFO is in it");
    uint64_t step = 1;
    for (uint64_t n = 1; n < all; n += step) {
        step = n < 60 || n + 120 > all ? 1 : 97; /* in the middle of INFO one byte is as another */
        redis_server_ask(&server, "CLIENT KILL TYPE normal SKIPME yes");
        cr_assert(bridgehead_await(head, !head->is_here));
        proxy_cut_replies(&proxy, n);
        cr_assert(bridgehead_await(head, proxy_has_cut(&proxy) || head->is_here), "%s", head->whys);
        proxy_cut_replies(&proxy, UINT64_MAX);
        cr_assert(bridgehead_await(head, head->is_here), "after %zu bytes: %s", (size_t)n, head->whys);
    }
    see_that_it_works(head);
    proxy_end(&proxy);
}

/* --- silence ------------------------------------------------------------------------------------------------------ */

Test(redis_conn, a_redis_that_is_stopped_is_given_up_and_found_again)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_make(server.url);
    head->config.reply_timeout_ns = UINT64_C(200000000);
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here));
    redis_server_pause(&server);
    const uint64_t position = 4;
    cr_assert(bridgehead_send(head, BRIDGEHEAD_TOPIC, 0, 1, &position));
    cr_assert(bridgehead_await(head, head->n_appended == 1));
    cr_assert_eq(head->result, BACKEND_AWAY);
    cr_assert(bridgehead_await(head, !head->is_here));
    cr_assert_not_null(strstr(head->why, "it has not answered in reply_timeout"), "%s", head->why);
    redis_server_continue(&server);
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->whys);
    cr_assert_leq(redis_server_number(&server, "XLEN %s", BRIDGEHEAD_TOPIC), 1);
    see_that_it_works(head);
    cr_assert_str_eq(redis_server_fields(&server, BRIDGEHEAD_TOPIC, "position"), "4",
                     "once, whether it was taken when it was stopped or not");
}

Test(redis_conn, a_network_that_swallows_all_is_given_up_though_nobody_asks)
{
    struct redis_server server = redis_server_start(NULL);
    struct proxy proxy = proxy_start(server.dir, server.socket);
    struct bridgehead *head = bridgehead_make(proxy.url);
    head->config.reply_timeout_ns = UINT64_C(200000000);
    head->config.in = true;
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here));
    cr_assert_eq(head->backend->class->listen(head->backend, BRIDGEHEAD_TOPIC, ""), EVBUS_OK);
    head->backend->class->more(head->backend, BRIDGEHEAD_TOPIC);
    cr_assert(bridgehead_await(head, head->n_empty == 1));
    proxy_swallow(&proxy, true);
    cr_assert(bridgehead_await(head, !head->is_here));
    proxy_swallow(&proxy, false);
    see_that_it_works(head);
    proxy_end(&proxy);
}

Test(redis_conn, a_slow_one_is_no_silent_one)
{
    struct redis_server server = redis_server_start(NULL);
    struct proxy proxy = proxy_start(server.dir, server.socket);
    proxy_delay(&proxy, 50);
    struct bridgehead *head = bridgehead_start(proxy.url);
    const uint64_t positions[] = {4, 8, 12};
    cr_assert_eq(bridgehead_append(head, BRIDGEHEAD_TOPIC, 0, 3, positions), BACKEND_OK);
    cr_assert_eq(head->n_states, 1, "%s", head->whys);
    bridgehead_close(head);
    proxy_end(&proxy);
}

/* --- who we are --------------------------------------------------------------------------------------------------- */

static void give_password(struct bridgehead *head, const char *user, const void *password, size_t len)
{
    snprintf(head->config.user, sizeof head->config.user, "%s", user);
    memcpy(head->config.password, password, len);
    head->config.password_len = len;
}

Test(redis_conn, without_a_password_or_with_a_wrong_one_it_is_told_what_to_set)
{
    struct redis_server server = redis_server_start("requirepass secret\nuser someone on >other +@all ~*");
    static const struct {
        const char *user, *password, *told; /* NULL: it is let in */
    } rows[] = {
        {"", "", "NOAUTH Authentication required; set user and password_file"},
        {"", "wrong", "WRONGPASS "},
        {"", "secret", NULL},
        {"default", "secret", NULL},
        {"someone", "other", NULL},
        {"someone", "secret", "WRONGPASS "},
        {"nobody", "secret", "WRONGPASS "},
        {"someone", "", "WRONGPASS "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bridgehead *head = bridgehead_make(server.url);
        give_password(head, rows[i].user, rows[i].password, strlen(rows[i].password));
        bridgehead_open(head);
        cr_assert(bridgehead_await(head, head->n_states > 0));
        cr_assert_eq(head->is_here, rows[i].told == NULL, "%s/%s: %s", rows[i].user, rows[i].password, head->why);
        cr_assert(rows[i].told == NULL || strstr(head->why, rows[i].told) != NULL, "%s", head->why);
        bridgehead_close(head);
    }
}

Test(redis_conn, a_password_where_none_is_wanted_is_told)
{
    struct redis_server server = redis_server_start(NULL);
    struct bridgehead *head = bridgehead_make(server.url);
    give_password(head, "", "secret", 6);
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->n_states > 0));
    cr_assert_not_null(strstr(head->why, "it wants no password, and we have one"), "%s", head->why);
    cr_assert_str_eq(redis_server_ask(&server, "CONFIG SET requirepass secret"), "OK");
    see_that_it_works(head);
}

Test(redis_conn, a_user_in_the_url_is_the_user)
{
    struct redis_server server = redis_server_start_tcp("user some.one on >other +@all ~*\nuser default off");
    char url[100];
    snprintf(url, sizeof url, "redis://some.one@127.0.0.1:%u", (unsigned)server.port);
    struct bridgehead *head = bridgehead_make(url);
    give_password(head, "", "other", 5);
    bridgehead_open(head);
    see_that_it_works(head);
}

Test(redis_conn, a_password_is_any_bytes)
{
    static const char password[] = {'a', '\r', '\n', ' ', '\0', '\xff', '"', '\''};
    struct redis_server server = redis_server_start(
        "user bytes on #072f4210613f5420c227f01efca648617c76722b936cd1204c94be2b5072e524 +@all ~*");
    struct bridgehead *head = bridgehead_make(server.url);
    give_password(head, "bytes", password, sizeof password);
    bridgehead_open(head);
    see_that_it_works(head);
}

/* --- TLS ---------------------------------------------------------------------------------------------------------- */

static struct bridgehead *make_by_tls(const struct redis_server *server, const char *host, const char *ca,
                                      const char *cert)
{
    char url[100], name[40];
    snprintf(url, sizeof url, "rediss://%s:%u", host, (unsigned)server->port);
    struct bridgehead *head = bridgehead_make(url);
    snprintf(name, sizeof name, "%s.crt", ca);
    snprintf(head->config.tls_ca, sizeof head->config.tls_ca, "%s", redis_server_file(server, name));
    if (cert != NULL) {
        snprintf(name, sizeof name, "%s.crt", cert);
        snprintf(head->config.tls_cert, sizeof head->config.tls_cert, "%s", redis_server_file(server, name));
        snprintf(name, sizeof name, "%s.key", cert);
        snprintf(head->config.tls_key, sizeof head->config.tls_key, "%s", redis_server_file(server, name));
    }
    return head;
}

Test(redis_conn, by_tls_for_the_name_and_the_address_that_the_certificate_has)
{
    struct redis_server server = redis_server_start_tls(false);
    static const char *const hosts[] = {"localhost", "127.0.0.1"};
    for (size_t i = 0; i < 2; i++) {
        struct bridgehead *head = make_by_tls(&server, hosts[i], "ca", NULL);
        bridgehead_open(head);
        see_that_it_works(head);
    }
}

Test(redis_conn, by_tls_large_things_go_both_ways)
{
    struct redis_server server = redis_server_start_tls(false);
    struct bridgehead *head = make_by_tls(&server, "localhost", "ca", NULL);
    static char payload[4 << 20];
    memset(payload, '1', sizeof payload);
    head->config.in = true;
    head->config.batch_bytes = UINT64_C(1) << 30;
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->whys);
    cr_assert(head->backend->class->begin(head->backend, BRIDGEHEAD_LOG, 3, 1, 1));
    for (uint64_t i = 1; i <= 5; i++)
        cr_assert(bridgehead_add(head, BRIDGEHEAD_TOPIC, i - 1, i, payload, sizeof payload));
    cr_assert(head->backend->class->send(head->backend, 1));
    cr_assert(bridgehead_await(head, head->n_appended == 1));
    cr_assert_eq(head->result, BACKEND_OK, "%s", head->append_why);
    cr_assert_eq(head->backend->class->listen(head->backend, BRIDGEHEAD_TOPIC, ""), EVBUS_OK);
    head->backend->class->more(head->backend, BRIDGEHEAD_TOPIC);
    cr_assert(bridgehead_await(head, head->n_arrived == 5));
    cr_assert_eq(head->n_states, 1, "%s", head->whys);
    bridgehead_close(head);
}

Test(redis_conn, a_certificate_that_is_not_the_right_one_is_refused_and_told)
{
    struct redis_server server = redis_server_start_tls(false);
    static const struct {
        const char *label, *name, *ca, *told, *mend;
    } rows[] = {
        {"another name", "redis.example", "ca", "ostname mismatch", "set tls_name"},
        {"another address", "10.0.0.1", "ca", "IP address mismatch", "set tls_name"},
        {"another signer", "", "other-ca", "certificate", "set tls_ca"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bridgehead *head = make_by_tls(&server, "localhost", rows[i].ca, NULL);
        snprintf(head->config.tls_name, sizeof head->config.tls_name, "%s", rows[i].name);
        bridgehead_open(head);
        cr_assert(bridgehead_await(head, strstr(head->whys, rows[i].told) != NULL), "%s: %s", rows[i].label,
                  head->whys);
        cr_assert_not_null(strstr(head->why, rows[i].mend), "%s: %s", rows[i].label, head->why);
        cr_assert_not(head->is_here);
        bridgehead_close(head);
    }
}

Test(redis_conn, the_name_may_be_another_than_the_hosts)
{
    struct redis_server server = redis_server_start_tls(false);
    struct bridgehead *head = make_by_tls(&server, "127.0.0.1", "ca", NULL);
    snprintf(head->config.tls_name, sizeof head->config.tls_name, "localhost");
    bridgehead_open(head);
    see_that_it_works(head);
}

Test(redis_conn, a_certificate_of_ours_is_shown_where_it_is_asked_for)
{
    struct redis_server server = redis_server_start_tls(true);
    struct bridgehead *head = make_by_tls(&server, "localhost", "ca", NULL);
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, strstr(head->whys, "set tls_cert and tls_key") != NULL), "%s", head->whys);
    cr_assert_not(head->is_here);
    bridgehead_close(head);
    head = make_by_tls(&server, "localhost", "ca", "client");
    bridgehead_open(head);
    see_that_it_works(head);
}

Test(redis_conn, tls_to_a_port_without_and_the_other_way_round_is_told)
{
    struct redis_server plain = redis_server_start_tcp(NULL);
    struct redis_server server = redis_server_start_tls(false);
    struct redis_server mixed = server;
    mixed.port = plain.port;
    struct bridgehead *head = make_by_tls(&mixed, "127.0.0.1", "ca", NULL);
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, strstr(head->whys, "is its port the one of `tls-port`?") != NULL), "%s",
              head->whys);
    cr_assert_not(head->is_here);
    bridgehead_close(head);
    char url[100];
    snprintf(url, sizeof url, "redis://127.0.0.1:%u", (unsigned)server.port);
    head = bridgehead_make(url);
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, strstr(head->whys, "does it want TLS (rediss://)?") != NULL), "%s", head->whys);
    bridgehead_close(head);
}

/* --- what kind of Redis ------------------------------------------------------------------------------------------- */

Test(redis_conn, a_cluster_is_refused_with_layout_topic_and_works_with_layout_log)
{
    struct redis_server server = redis_server_start_tcp("cluster-enabled yes");
    char url[100];
    snprintf(url, sizeof url, "redis://127.0.0.1:%u", (unsigned)server.port);
    struct bridgehead *head = bridgehead_make(url);
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->n_states > 0));
    cr_assert_not_null(strstr(head->why, "set layout = log"), "%s", head->why);
    bridgehead_close(head);
    head = bridgehead_make(url);
    head->config.layout = CONFIG_LAYOUT_LOG;
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->why);
    const uint64_t position = 4;
    cr_assert_eq(bridgehead_append(head, BRIDGEHEAD_TOPIC, 0, 1, &position), BACKEND_REFUSED);
    cr_assert_eq(strncmp(head->append_why, "CLUSTERDOWN ", 12), 0, "%s", head->append_why);
    redis_server_ask(&server, "CLUSTER ADDSLOTSRANGE 0 16383");
    cr_assert(await_that(strstr(redis_server_ask(&server, "CLUSTER INFO"), "cluster_state:ok") != NULL));
    cr_assert(bridgehead_await(head, head->is_here), "%s", head->why);
    see_that_it_works(head);
}

Test(redis_conn, a_policy_that_evicts_is_told_and_gone_on_with)
{
    struct redis_server server = redis_server_start("maxmemory 100mb\nmaxmemory-policy allkeys-lru");
    struct bridgehead *head = bridgehead_start(server.url);
    cr_assert_not_null(strstr(head->why, "maxmemory-policy is allkeys-lru"), "%s", head->why);
    see_that_it_works(head);
}

Test(redis_conn, a_replica_is_left_alone_until_it_is_the_master)
{
    struct redis_server server = redis_server_start("replicaof 127.0.0.1 1");
    struct bridgehead *head = bridgehead_make(server.url);
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->n_states > 0));
    cr_assert_not_null(strstr(head->why, "the bridge needs the master"), "%s", head->why);
    redis_server_ask(&server, "REPLICAOF NO ONE");
    see_that_it_works(head);
}

Test(redis_conn, a_redis_that_is_loading_is_waited_for)
{
    struct redis_server server = redis_server_start("rdbcompression no");
    for (unsigned i = 0; i < 40; i++) {
        char stream[16];
        snprintf(stream, sizeof stream, "key%u", i);
        redis_server_add_large(&server, stream, 10000);
    }
    cr_assert_str_eq(redis_server_ask(&server, "SAVE"), "OK");
    redis_server_kill(&server);
    redis_server_configure(&server, "key-load-delay 50000\nloading-process-events-interval-bytes 1024");
    redis_server_launch(&server);
    struct bridgehead *head = bridgehead_make(server.url);
    bridgehead_open(head);
    cr_assert(bridgehead_await(head, head->is_here || strstr(head->whys, "LOADING ") != NULL), "%s", head->whys);
    cr_assert_not(head->is_here, "%s", head->whys);
    cr_assert_not_null(strstr(head->why, "nothing to do but wait"), "%s", head->why);
    see_that_it_works(head);
}
