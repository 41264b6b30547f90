/* One effect per event with PostgreSQL, a real one. [guards ONCE] Of deaths: crash/test_once.c. [no tsan] libpq is not built for it. */
#include "await.h"
#include "postgres.h"

#include <criterion/criterion.h>
#include <evbus/once.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GROUP "product-service"
#define HOUR  UINT64_C(3600000000000)

struct scene {
    char url[300];
    PGconn *db;
    PGconn *other;              /* sees what is committed */
    const char *sql;            /* what work runs */
    enum evbus_outcome outcome; /* what it says then, where its SQL has not failed */
    const char *text;           /* its error text, or NULL */
    bool overlooks;             /* that its SQL has failed */
    bool breaks;                /* work shuts the connection for what comes from the server */
    unsigned n_calls;
    char error[EVBUS_ERROR_MAX];
};

static PGconn *connect_to(const struct scene *scene)
{
    PGconn *db = PQconnectdb(scene->url);
    cr_assert_eq(PQstatus(db), CONNECTION_OK, "%s", PQerrorMessage(db));
    return db;
}

static void sql(PGconn *db, const char *text)
{
    PGresult *result = PQexec(db, text);
    ExecStatusType status = PQresultStatus(result);
    cr_assert(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK, "%s: %s", text, PQerrorMessage(db));
    PQclear(result);
}

/* A schema of the test's own, in which all its connections are. */
static struct scene scene_make(void)
{
    char text[80];
    struct scene scene = {.sql = "UPDATE effect SET n = n + 1"};
    snprintf(scene.url, sizeof scene.url, "%s options='-c search_path=test_%d -c client_min_messages=error'",
             postgres_url(), getpid());
    scene.db = connect_to(&scene);
    scene.other = connect_to(&scene);
    snprintf(text, sizeof text, "CREATE SCHEMA test_%d", getpid());
    sql(scene.db, text);
    sql(scene.db,
        "CREATE TABLE effect (n int); INSERT INTO effect VALUES (0); CREATE TABLE parent (id int PRIMARY KEY);"
        "CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)");
    cr_assert_eq(evbus_once_postgres_prepare(scene.db, scene.error), EVBUS_OK, "%s", scene.error);
    return scene;
}

static void scene_end(struct scene *scene)
{
    PQfinish(scene->db);
    PQfinish(scene->other);
}

static int number(const struct scene *scene, const char *query)
{
    PGresult *result = PQexec(scene->other, query);
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(scene->other));
    int n = atoi(PQgetvalue(result, 0, 0));
    PQclear(result);
    return n;
}

static int effects(const struct scene *scene)
{
    return number(scene, "SELECT n FROM effect");
}

static int rows(const struct scene *scene)
{
    return number(scene, "SELECT count(*) FROM evbus_processed_event");
}

static enum evbus_outcome work(void *context, const struct evbus_delivery *event, char *error)
{
    struct scene *scene = context;
    cr_assert_neq(event->id[0], 0);
    scene->n_calls++;
    PGresult *result = PQexec(scene->db, scene->sql);
    ExecStatusType status = PQresultStatus(result);
    bool is_good = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || scene->overlooks;
    enum evbus_outcome outcome = is_good ? scene->outcome : evbus_once_postgres_failed(scene->db, result, error);
    PQclear(result);
    if (is_good && scene->text != NULL)
        strcpy(error, scene->text);
    if (scene->breaks)
        shutdown(PQsocket(scene->db), SHUT_RD);
    return outcome;
}

static struct evbus_delivery event_of(uint8_t n)
{
    return (struct evbus_delivery){.size = sizeof(struct evbus_delivery), .id = {n, 0, 0, 0xff}};
}

static enum evbus_outcome handle_in(struct scene *scene, const char *group, uint8_t n)
{
    struct evbus_delivery event = event_of(n);
    scene->error[0] = '\0';
    return evbus_once_postgres(scene->db, group, &event, work, scene, scene->error);
}

static enum evbus_outcome handle(struct scene *scene, uint8_t n)
{
    return handle_in(scene, GROUP, n);
}

#define tells(words) cr_expect_not_null(strstr(scene.error, words), "the text is: %s", scene.error)

#define is_idle() cr_expect_eq(PQtransactionStatus(scene.db), PQTRANS_IDLE, "a transaction is open")

Test(once_postgres, does_the_work_of_an_event_once_and_says_done_each_time)
{
    struct scene scene = scene_make();
    for (int i = 0; i < 3; i++)
        cr_expect_eq(handle(&scene, 1), EVBUS_DONE, "%s", scene.error);
    cr_expect_eq(scene.n_calls, 1u);
    cr_expect_eq(effects(&scene), 1);
    cr_expect_eq(handle(&scene, 2), EVBUS_DONE);
    cr_expect_eq(effects(&scene), 2);
    cr_expect_eq(number(&scene, "SELECT count(*) FROM evbus_processed_event"
                                "  WHERE event_id = '010000ff-0000-0000-0000-000000000000'"),
                 1);
    scene_end(&scene);
}

Test(once_postgres, does_it_once_at_every_isolation_level)
{
    static const char *const levels[] = {"read committed", "repeatable read", "serializable"};
    struct scene scene = scene_make();
    for (uint8_t i = 0; i < 3; i++) {
        char text[100];
        snprintf(text, sizeof text, "SET default_transaction_isolation = '%s'", levels[i]);
        sql(scene.db, text);
        cr_expect_eq(handle(&scene, (uint8_t)(1 + i)), EVBUS_DONE, "%s: %s", levels[i], scene.error);
        cr_expect_eq(handle(&scene, (uint8_t)(1 + i)), EVBUS_DONE, "%s: %s", levels[i], scene.error);
    }
    cr_expect_eq(effects(&scene), 3);
    scene_end(&scene);
}

Test(once_postgres, lets_two_groups_of_one_database_both_have_their_effect)
{
    struct scene scene = scene_make();
    cr_expect_eq(handle_in(&scene, "product-service", 1), EVBUS_DONE);
    cr_expect_eq(handle_in(&scene, "analytics-service", 1), EVBUS_DONE);
    cr_expect_eq(effects(&scene), 2);
    cr_expect_eq(rows(&scene), 2);
    scene_end(&scene);
}

Test(once_postgres, undoes_what_work_does_not_call_done_and_passes_on_what_it_said)
{
    static const enum evbus_outcome outcomes[] = {EVBUS_RETRY, EVBUS_REJECT, EVBUS_RELEASE, EVBUS_DEFER};
    struct scene scene = scene_make();
    scene.text = "not so many are left";
    for (int i = 0; i < 4; i++) {
        scene.outcome = outcomes[i];
        cr_expect_eq(handle(&scene, 1), outcomes[i]);
        cr_expect_str_eq(scene.error, scene.text);
        cr_expect_eq(effects(&scene) + rows(&scene), 0);
        is_idle();
    }
    scene.outcome = EVBUS_DONE;
    cr_expect_eq(handle(&scene, 1), EVBUS_DONE);
    cr_expect_eq(effects(&scene), 1);
    scene_end(&scene);
}

static void *handle_in_a_thread(void *context)
{
    struct scene *scene = context;
    handle(scene, 1);
    return NULL;
}

/* One that was taken for dead, and comes back, beside the one that has its event now. */
static void handle_beside(struct scene *scene, const char *end_of_the_first)
{
    struct scene second = *scene;
    pthread_t thread;
    char query[100];
    second.db = connect_to(scene);
    snprintf(query, sizeof query, "SELECT count(*) FROM pg_stat_activity WHERE pid = %d AND wait_event_type = 'Lock'",
             PQbackendPID(second.db));
    sql(scene->db,
        "BEGIN; INSERT INTO evbus_processed_event VALUES ('" GROUP "', '010000ff-0000-0000-0000-000000000000');"
        "UPDATE effect SET n = n + 1");
    cr_assert_eq(pthread_create(&thread, NULL, handle_in_a_thread, &second), 0);
    cr_expect(await_that(number(scene, query) == 1), "it does not wait for the first");
    sql(scene->db, end_of_the_first);
    pthread_join(thread, NULL);
    *scene = (struct scene){.db = scene->db, .other = scene->other, .n_calls = second.n_calls};
    cr_expect_eq(effects(scene), 1, "%s", second.error);
    PQfinish(second.db);
}

Test(once_postgres, waits_for_who_has_the_same_event_and_finds_its_effect)
{
    struct scene scene = scene_make();
    handle_beside(&scene, "COMMIT");
    cr_expect_eq(scene.n_calls, 0u);
    scene_end(&scene);
}

Test(once_postgres, waits_for_who_has_the_same_event_and_does_the_work_where_that_one_has_not)
{
    struct scene scene = scene_make();
    handle_beside(&scene, "ROLLBACK");
    cr_expect_eq(scene.n_calls, 1u);
    scene_end(&scene);
}

static void *handle_many(void *context)
{
    struct scene scene = *(const struct scene *)context;
    scene.db = connect_to(&scene);
    for (uint8_t n = 1; n <= 40; n++) {
        enum evbus_outcome outcome;
        while ((outcome = handle(&scene, n)) == EVBUS_RELEASE) /* serialization failures */
            continue;
        cr_expect_eq(outcome, EVBUS_DONE, "%s", scene.error);
    }
    PQfinish(scene.db);
    return NULL;
}

Test(once_postgres, has_one_effect_where_several_handle_the_same_event_at_once)
{
    static const char *const levels[] = {"read committed", "serializable"};
    for (size_t level = 0; level < 2; level++) {
        struct scene scene = scene_make();
        char text[200];
        snprintf(text, sizeof text, "ALTER ROLE evbus SET default_transaction_isolation = '%s'", levels[level]);
        sql(scene.db, text);
        pthread_t threads[4];
        for (size_t i = 0; i < 4; i++)
            cr_assert_eq(pthread_create(&threads[i], NULL, handle_many, &scene), 0);
        for (size_t i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        cr_expect_eq(effects(&scene), 40, "%s", levels[level]);
        snprintf(text, sizeof text, "ALTER ROLE evbus RESET default_transaction_isolation; DROP SCHEMA test_%d CASCADE",
                 getpid());
        sql(scene.db, text);
        scene_end(&scene);
    }
}

Test(once_postgres, releases_an_event_whose_connection_is_lost_and_does_it_when_it_is_back)
{
    struct scene scene = scene_make();
    char text[100];
    snprintf(text, sizeof text, "SELECT pg_terminate_backend(%d, 10000)", PQbackendPID(scene.db));
    sql(scene.other, text); /* as by an administrator, or a shutdown */
    cr_expect_eq(handle(&scene, 1), EVBUS_RELEASE);
    tells("cannot be begun"); /* and the server's words, or libpq's that it is gone */
    cr_expect_eq(handle(&scene, 1), EVBUS_RELEASE);
    tells("PQreset() mends that");
    cr_expect_eq(scene.n_calls, 0u);
    PQreset(scene.db);
    cr_expect_eq(handle(&scene, 1), EVBUS_DONE, "%s", scene.error);
    scene.sql = "SELECT pg_terminate_backend(pg_backend_pid())"; /* in the midst of the work */
    cr_expect_eq(handle(&scene, 2), EVBUS_RELEASE);
    PQreset(scene.db);
    scene.overlooks = true;
    cr_expect_eq(handle(&scene, 2), EVBUS_RELEASE, "and when the work has not seen it");
    PQreset(scene.db);
    scene.sql = "UPDATE effect SET n = n + 1";
    cr_expect_eq(handle(&scene, 2), EVBUS_DONE);
    cr_expect_eq(effects(&scene), 2);
    scene_end(&scene);
}

Test(once_postgres, releases_an_event_whose_commit_is_not_answered_and_finds_its_row_next_time)
{
    struct scene scene = scene_make();
    scene.breaks = true;
    cr_expect_eq(handle(&scene, 1), EVBUS_RELEASE);
    cr_expect(await_that(rows(&scene) == 1), "the server has got the COMMIT");
    PQreset(scene.db);
    cr_expect_eq(handle(&scene, 1), EVBUS_DONE);
    cr_expect_eq(scene.n_calls, 1u);
    cr_expect_eq(effects(&scene), 1);
    scene_end(&scene);
}

Test(once_postgres, releases_an_event_for_what_is_no_fault_of_its_own)
{
    static const struct {
        const char *state;
        enum evbus_outcome outcome;
    } cases[] = {{"08006", EVBUS_RELEASE}, {"25006", EVBUS_RELEASE}, {"40001", EVBUS_RELEASE}, {"40P01", EVBUS_RELEASE},
                 {"53100", EVBUS_RELEASE}, {"53300", EVBUS_RELEASE}, {"55P03", EVBUS_RELEASE}, {"57P01", EVBUS_RELEASE},
                 {"58030", EVBUS_RELEASE}, {"XX001", EVBUS_RELEASE}, {"57014", EVBUS_RETRY},   {"23505", EVBUS_RETRY},
                 {"22012", EVBUS_RETRY},   {"42P01", EVBUS_RETRY}};
    struct scene scene = scene_make();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[100];
        snprintf(text, sizeof text, "DO $$ BEGIN RAISE 'this is why' USING errcode = '%s'; END $$", cases[i].state);
        scene.sql = text;
        cr_expect_eq(handle(&scene, 1), cases[i].outcome, "%s", cases[i].state);
        tells("PostgreSQL: ERROR:  this is why");
        is_idle();
    }
    cr_expect_eq(rows(&scene), 0);
    scene_end(&scene);
}

Test(once_postgres, asks_for_another_attempt_where_commit_finds_the_work_wrong)
{
    struct scene scene = scene_make();
    scene.sql = "INSERT INTO child VALUES (7)";
    cr_expect_eq(handle(&scene, 1), EVBUS_RETRY);
    tells("violates foreign key constraint");
    cr_expect_eq(rows(&scene), 0);
    sql(scene.db, "CREATE TABLE single (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)");
    scene.sql = "INSERT INTO single VALUES (1), (1)"; /* a unique violation, and not the row's */
    cr_expect_eq(handle(&scene, 1), EVBUS_RETRY);
    scene.sql = "INSERT INTO child VALUES (7); INSERT INTO parent VALUES (7)";
    cr_expect_eq(handle(&scene, 1), EVBUS_DONE, "%s", scene.error);
    scene_end(&scene);
}

Test(once_postgres, does_not_take_somebody_elses_unique_violation_for_its_own)
{
    struct scene scene = scene_make();
    sql(scene.db, "INSERT INTO parent VALUES (1); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
                  "  'BEGIN INSERT INTO parent VALUES (1); RETURN NEW; END'; CREATE TRIGGER noted BEFORE INSERT ON"
                  "  evbus_processed_event FOR EACH ROW EXECUTE FUNCTION note()");
    cr_expect_eq(handle(&scene, 1), EVBUS_RELEASE);
    tells("parent_pkey");
    scene_end(&scene);
}

Test(once_postgres, tells_where_the_table_is_missing_and_does_no_work)
{
    struct scene scene = scene_make();
    sql(scene.db, "DROP TABLE evbus_processed_event");
    cr_expect_eq(handle(&scene, 1), EVBUS_RELEASE);
    tells("does not exist");
    tells("evbus_once_postgres_prepare()");
    cr_expect_eq(scene.n_calls, 0u);
    is_idle();
    scene_end(&scene);
}

Test(once_postgres, leaves_a_transaction_alone_that_is_not_its_own)
{
    struct scene scene = scene_make();
    sql(scene.db, "BEGIN; UPDATE effect SET n = 40");
    cr_expect_eq(handle(&scene, 1), EVBUS_RELEASE);
    tells("in a transaction already");
    cr_expect_eq(evbus_once_postgres_prepare(scene.db, scene.error), EVBUS_EINVAL);
    cr_expect_eq(evbus_once_postgres_prune(scene.db, GROUP, HOUR, NULL, scene.error), EVBUS_EINVAL);
    sql(scene.db, "COMMIT");
    cr_expect_eq(effects(&scene), 40);
    scene_end(&scene);
}

Test(once_postgres, tells_when_work_has_ended_the_transaction_and_the_next_attempt_finds_what_is_there)
{
    static const struct {
        const char *sql;
        int effects; /* that are there then, with their row */
    } cases[] = {{"UPDATE effect SET n = n + 1; COMMIT", 1},
                 {"UPDATE effect SET n = n + 1; ROLLBACK", 0},
                 {"UPDATE effect SET n = n + 1; COMMIT; BEGIN; UPDATE effect SET n = 100", 1},
                 {"ROLLBACK; BEGIN; UPDATE effect SET n = 100", 0}};
    struct scene scene = scene_make();
    for (uint8_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sql(scene.db, "UPDATE effect SET n = 0; DELETE FROM evbus_processed_event");
        scene.sql = cases[i].sql;
        cr_expect_eq(handle(&scene, 1), EVBUS_RETRY, "%s", cases[i].sql);
        tells("must not commit");
        is_idle();
        cr_expect_eq(effects(&scene), cases[i].effects, "%s", cases[i].sql);
        cr_expect_eq(rows(&scene), cases[i].effects, "%s", cases[i].sql);
        scene.sql = "UPDATE effect SET n = n + 1";
        cr_expect_eq(handle(&scene, 1), EVBUS_DONE);
        cr_expect_eq(effects(&scene), 1, "%s", cases[i].sql);
    }
    scene_end(&scene);
}

Test(once_postgres, tells_when_a_statement_of_the_work_has_failed_and_work_has_overlooked_it)
{
    struct scene scene = scene_make();
    scene.overlooks = true;
    scene.sql = "INSERT INTO nowhere VALUES (1)";
    cr_expect_eq(handle(&scene, 1), EVBUS_RETRY);
    tells("a statement of its had failed: ERROR:  relation \"nowhere\" does not exist");
    cr_expect_eq(rows(&scene), 0);
    is_idle();
    scene_end(&scene);
}

Test(once_postgres, lets_work_have_savepoints_of_its_own)
{
    struct scene scene = scene_make();
    scene.sql = "SAVEPOINT mine; UPDATE effect SET n = 50; ROLLBACK TO mine; RELEASE mine;"
                "SAVEPOINT left_open; UPDATE effect SET n = n + 1";
    cr_expect_eq(handle(&scene, 1), EVBUS_DONE, "%s", scene.error);
    cr_expect_eq(effects(&scene), 1);
    cr_expect_eq(rows(&scene), 1);
    scene_end(&scene);
}

Test(once_postgres, says_what_is_missing_and_lives_without_a_place_for_its_words)
{
    struct scene scene = scene_make();
    struct evbus_delivery event = event_of(1);
    cr_expect_eq(evbus_once_postgres(NULL, GROUP, &event, work, &scene, scene.error), EVBUS_RELEASE);
    tells("an argument is missing");
    cr_expect_eq(evbus_once_postgres(scene.db, NULL, &event, work, &scene, NULL), EVBUS_RELEASE);
    cr_expect_eq(evbus_once_postgres(scene.db, GROUP, NULL, work, &scene, NULL), EVBUS_RELEASE);
    cr_expect_eq(evbus_once_postgres(scene.db, GROUP, &event, NULL, &scene, NULL), EVBUS_RELEASE);
    cr_expect_eq(evbus_once_postgres_prepare(NULL, NULL), EVBUS_EINVAL);
    cr_expect_eq(evbus_once_postgres_prune(scene.db, GROUP, 0, NULL, NULL), EVBUS_EINVAL);
    cr_expect_eq(evbus_once_postgres_prune(scene.db, NULL, HOUR, NULL, NULL), EVBUS_EINVAL);
    scene.sql = "INSERT INTO nowhere VALUES (1)";
    cr_expect_eq(evbus_once_postgres(scene.db, GROUP, &event, work, &scene, NULL), EVBUS_RETRY);
    scene_end(&scene);
}

Test(once_postgres, can_be_begun_and_ended_by_a_loop_of_ones_own)
{
    struct scene scene = scene_make();
    struct evbus_delivery event = event_of(1);
    cr_assert_eq(evbus_once_postgres_begin(scene.db, GROUP, &event, scene.error), EVBUS_OK);
    sql(scene.db, scene.sql);
    cr_expect_eq(evbus_once_postgres_end(scene.db, EVBUS_REJECT, scene.error), EVBUS_REJECT);
    cr_assert_eq(evbus_once_postgres_begin(scene.db, GROUP, &event, scene.error), EVBUS_OK);
    sql(scene.db, scene.sql);
    cr_expect_eq(effects(&scene), 0, "it is not committed yet");
    cr_expect_eq(evbus_once_postgres_end(scene.db, EVBUS_DONE, scene.error), EVBUS_DONE);
    cr_expect_eq(evbus_once_postgres_begin(scene.db, GROUP, &event, scene.error), EVBUS_EDUPLICATE);
    is_idle();
    cr_expect_eq(effects(&scene), 1);
    scene_end(&scene);
}

static void *prepare(void *context)
{
    char error[EVBUS_ERROR_MAX] = "";
    PGconn *db = connect_to(context);
    cr_expect_eq(evbus_once_postgres_prepare(db, error), EVBUS_OK, "%s", error);
    PQfinish(db);
    return NULL;
}

Test(once_postgres, is_prepared_by_any_number_at_once)
{
    struct scene scene = scene_make();
    for (int round = 0; round < 10; round++) {
        pthread_t threads[6];
        sql(scene.db, "DROP TABLE evbus_processed_event");
        for (size_t i = 0; i < 6; i++)
            cr_assert_eq(pthread_create(&threads[i], NULL, prepare, &scene), 0);
        for (size_t i = 0; i < 6; i++)
            pthread_join(threads[i], NULL);
        cr_expect_eq(rows(&scene), 0);
    }
    scene_end(&scene);
}

Test(once_postgres, needs_no_more_rights_than_its_file_says)
{
    struct scene scene = scene_make();
    char text[300];
    uint64_t n = 0;
    snprintf(text, sizeof text,
             "CREATE ROLE servant; GRANT USAGE ON SCHEMA test_%d TO servant; GRANT UPDATE, SELECT ON effect TO servant;"
             "GRANT INSERT ON evbus_processed_event TO servant",
             getpid());
    sql(scene.db, text);
    sql(scene.db, "SET ROLE servant");
    cr_expect_eq(evbus_once_postgres_prepare(scene.db, scene.error), EVBUS_OK, "%s", scene.error);
    cr_expect_eq(handle(&scene, 1), EVBUS_DONE, "%s", scene.error);
    cr_expect_eq(handle(&scene, 1), EVBUS_DONE, "%s", scene.error);
    cr_expect_eq(evbus_once_postgres_prune(scene.db, GROUP, 1000, &n, scene.error), EVBUS_EIO);
    tells("permission denied");
    sql(scene.other, "GRANT SELECT, DELETE ON evbus_processed_event TO servant");
    cr_expect_eq(evbus_once_postgres_prune(scene.db, GROUP, 1000, &n, scene.error), EVBUS_OK, "%s", scene.error);
    cr_expect_eq(n, 1u);
    scene_end(&scene);
}

Test(once_postgres, forgets_what_is_old_of_one_group_and_nothing_else)
{
    struct scene scene = scene_make();
    uint64_t n = 7;
    cr_assert_eq(handle(&scene, 1), EVBUS_DONE);
    sql(scene.db, "INSERT INTO evbus_processed_event SELECT '" GROUP "', gen_random_uuid(), now() - interval '2 hours'"
                  "  FROM generate_series(1, 2500)");
    sql(scene.db, "INSERT INTO evbus_processed_event VALUES ('other', gen_random_uuid(), '1970-01-01')");
    cr_expect_eq(evbus_once_postgres_prune(scene.db, GROUP, 3 * HOUR, &n, scene.error), EVBUS_OK);
    cr_expect_eq(n, 0u);
    cr_expect_eq(evbus_once_postgres_prune(scene.db, GROUP, HOUR, &n, scene.error), EVBUS_OK, "%s", scene.error);
    cr_expect_eq(n, 2500u);
    cr_expect_eq(rows(&scene), 2);
    cr_expect_eq(handle(&scene, 1), EVBUS_DONE);
    cr_expect_eq(scene.n_calls, 1u, "what is young is there");
    cr_expect_eq(evbus_once_postgres_prune(scene.db, "other", UINT64_MAX, &n, scene.error), EVBUS_OK, "%s",
                 scene.error);
    cr_expect_eq(n, 0u, "nothing is as old as that");
    scene_end(&scene);
}
