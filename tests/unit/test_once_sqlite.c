/* One effect per event with SQLite. [guards ONCE] Of deaths: crash/test_once.c. */
#include "child.h"
#include "folder.h"

#include <criterion/criterion.h>
#include <evbus/once.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#define GROUP "product-service"
#define HOUR  UINT64_C(3600000000000)

struct scene {
    struct folder folder;
    char path[300];
    sqlite3 *db;
    const char *sql;            /* what work runs */
    enum evbus_outcome outcome; /* what it says then, where its SQL has not failed */
    const char *text;           /* its error text, or NULL */
    bool overlooks;             /* that its SQL has failed */
    unsigned n_calls;
    char error[EVBUS_ERROR_MAX];
};

static sqlite3 *connect(const struct scene *scene)
{
    sqlite3 *db;
    cr_assert_eq(sqlite3_open(scene->path, &db), SQLITE_OK);
    return db;
}

static void sql(sqlite3 *db, const char *text)
{
    cr_assert_eq(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK, "%s: %s", text, sqlite3_errmsg(db));
}

static struct scene scene_make(void)
{
    struct scene scene = {.folder = folder_make(), .sql = "UPDATE effect SET n = n + 1"};
    snprintf(scene.path, sizeof scene.path, "%s/once.db", scene.folder.path);
    scene.db = connect(&scene);
    sql(scene.db, "PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON; CREATE TABLE effect (n INTEGER);"
                  "INSERT INTO effect VALUES (0); CREATE TABLE parent (id INTEGER PRIMARY KEY);"
                  "CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED)");
    cr_assert_eq(evbus_once_sqlite_prepare(scene.db, scene.error), EVBUS_OK, "%s", scene.error);
    return scene;
}

static void scene_end(struct scene *scene)
{
    cr_expect_eq(sqlite3_close(scene->db), SQLITE_OK, "a statement was left open");
}

static int number(const struct scene *scene, const char *query)
{
    sqlite3_stmt *row;
    sqlite3 *db = connect(scene); /* another one sees what is committed */
    cr_assert_eq(sqlite3_prepare_v2(db, query, -1, &row, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    cr_assert_eq(sqlite3_step(row), SQLITE_ROW);
    int n = sqlite3_column_int(row, 0);
    sqlite3_finalize(row);
    sqlite3_close(db);
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
    if (sqlite3_exec(scene->db, scene->sql, NULL, NULL, NULL) != SQLITE_OK && !scene->overlooks)
        return evbus_once_sqlite_failed(scene->db, error);
    if (scene->text != NULL)
        strcpy(error, scene->text);
    return scene->outcome;
}

static struct evbus_delivery event_of(uint8_t n)
{
    return (struct evbus_delivery){.size = sizeof(struct evbus_delivery), .id = {n, 0, 0, 0xff}};
}

static enum evbus_outcome handle_in(struct scene *scene, const char *group, uint8_t n)
{
    struct evbus_delivery event = event_of(n);
    scene->error[0] = '\0';
    return evbus_once_sqlite(scene->db, group, &event, work, scene, scene->error);
}

static enum evbus_outcome handle(struct scene *scene, uint8_t n)
{
    return handle_in(scene, GROUP, n);
}

#define tells(words) cr_expect_not_null(strstr(scene.error, words), "the text is: %s", scene.error)

Test(once_sqlite, does_the_work_of_an_event_once_and_says_done_each_time)
{
    struct scene scene = scene_make();
    for (int i = 0; i < 3; i++)
        cr_expect_eq(handle(&scene, 1), EVBUS_DONE, "%s", scene.error);
    cr_expect_eq(scene.n_calls, 1u);
    cr_expect_eq(effects(&scene), 1);
    cr_expect_eq(handle(&scene, 2), EVBUS_DONE);
    cr_expect_eq(effects(&scene), 2);
    scene_end(&scene);
}

Test(once_sqlite, lets_two_groups_of_one_database_both_have_their_effect)
{
    struct scene scene = scene_make();
    cr_expect_eq(handle_in(&scene, "product-service", 1), EVBUS_DONE);
    cr_expect_eq(handle_in(&scene, "analytics-service", 1), EVBUS_DONE);
    cr_expect_eq(effects(&scene), 2);
    cr_expect_eq(rows(&scene), 2);
    scene_end(&scene);
}

Test(once_sqlite, undoes_what_work_does_not_call_done_and_passes_on_what_it_said)
{
    static const enum evbus_outcome outcomes[] = {EVBUS_RETRY, EVBUS_REJECT, EVBUS_RELEASE, EVBUS_DEFER};
    struct scene scene = scene_make();
    scene.text = "not so many are left";
    for (int i = 0; i < 4; i++) {
        scene.outcome = outcomes[i];
        cr_expect_eq(handle(&scene, 1), outcomes[i]);
        cr_expect_str_eq(scene.error, scene.text);
        cr_expect_eq(effects(&scene) + rows(&scene), 0);
    }
    scene.outcome = EVBUS_DONE;
    cr_expect_eq(handle(&scene, 1), EVBUS_DONE);
    cr_expect_eq(effects(&scene), 1);
    cr_expect_eq(scene.n_calls, 5u);
    scene_end(&scene);
}

Test(once_sqlite, releases_an_event_whose_database_somebody_else_writes_to)
{
    struct scene scene = scene_make();
    sqlite3 *other = connect(&scene);
    sql(other, "BEGIN IMMEDIATE");
    cr_expect_eq(handle(&scene, 1), EVBUS_RELEASE);
    tells("locked");
    cr_expect_eq(scene.n_calls, 0u);
    sql(other, "ROLLBACK");
    cr_expect_eq(handle(&scene, 1), EVBUS_DONE);
    sqlite3_close(other);
    scene_end(&scene);
}

Test(once_sqlite, releases_an_event_whose_commit_has_to_wait_for_a_reader)
{
    struct scene scene = scene_make();
    sql(scene.db, "PRAGMA journal_mode = DELETE"); /* there readers keep a writer out */
    sqlite3 *other = connect(&scene);
    sql(other, "BEGIN; SELECT n FROM effect");
    cr_expect_eq(handle(&scene, 1), EVBUS_RELEASE);
    tells("locked");
    cr_expect_eq(scene.n_calls, 1u, "it came to its commit");
    sql(other, "ROLLBACK");
    cr_expect_eq(rows(&scene), 0);
    cr_expect_eq(handle(&scene, 1), EVBUS_DONE);
    cr_expect_eq(effects(&scene), 1);
    sqlite3_close(other);
    scene_end(&scene);
}

Test(once_sqlite, releases_an_event_when_the_database_is_full)
{
    struct scene scene = scene_make();
    sql(scene.db, "PRAGMA max_page_count = 1");
    scene.sql = "INSERT INTO effect SELECT randomblob(500) FROM (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT"
                "  x + 1 FROM c WHERE x < 100) SELECT x FROM c)";
    cr_expect_eq(handle(&scene, 1), EVBUS_RELEASE);
    tells("full");
    cr_expect_eq(rows(&scene), 0);
    sql(scene.db, "PRAGMA max_page_count = 1000");
    cr_expect_eq(handle(&scene, 1), EVBUS_DONE, "%s", scene.error);
    scene_end(&scene);
}

Test(once_sqlite, asks_for_another_attempt_where_the_work_is_wrong)
{
    static const char *const wrong[] = {
        "INSERT INTO parent VALUES (1), (1)", /* a unique violation of the work's own is no duplicate */
        "INSERT INTO nowhere VALUES (1)", "INSERT INTO child VALUES (7)" /* and a deferred one is found by COMMIT */
    };
    struct scene scene = scene_make();
    for (int i = 0; i < 3; i++) {
        scene.sql = wrong[i];
        cr_expect_eq(handle(&scene, 1), EVBUS_RETRY, "%s", wrong[i]);
        tells("SQLite: ");
        cr_expect_eq(rows(&scene), 0);
    }
    scene.sql = "INSERT INTO child VALUES (7); INSERT INTO parent VALUES (7)";
    cr_expect_eq(handle(&scene, 1), EVBUS_DONE, "%s", scene.error);
    scene_end(&scene);
}

Test(once_sqlite, tells_where_the_table_is_missing_and_does_no_work)
{
    struct scene scene = scene_make();
    sql(scene.db, "DROP TABLE evbus_processed_event");
    cr_expect_eq(handle(&scene, 1), EVBUS_RELEASE);
    tells("no such table");
    tells("evbus_once_sqlite_prepare()");
    cr_expect_eq(scene.n_calls, 0u);
    scene_end(&scene);
}

Test(once_sqlite, leaves_a_transaction_alone_that_is_not_its_own)
{
    struct scene scene = scene_make();
    sql(scene.db, "BEGIN; UPDATE effect SET n = 40");
    cr_expect_eq(handle(&scene, 1), EVBUS_RELEASE);
    tells("in a transaction already");
    cr_expect_eq(evbus_once_sqlite_prepare(scene.db, scene.error), EVBUS_EINVAL);
    cr_expect_eq(evbus_once_sqlite_prune(scene.db, GROUP, HOUR, NULL, scene.error), EVBUS_EINVAL);
    sql(scene.db, "COMMIT");
    cr_expect_eq(effects(&scene), 40);
    scene_end(&scene);
}

Test(once_sqlite, tells_when_work_has_ended_the_transaction_and_the_next_attempt_finds_what_is_there)
{
    static const struct {
        const char *sql;
        int effects; /* that are there then, with their row */
    } cases[] = {{"UPDATE effect SET n = n + 1; COMMIT", 1},
                 {"UPDATE effect SET n = n + 1; ROLLBACK", 0},
                 {"UPDATE effect SET n = n + 1; COMMIT; BEGIN; UPDATE effect SET n = 100", 1},
                 {"ROLLBACK; BEGIN; UPDATE effect SET n = 100", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct scene scene = scene_make();
        scene.sql = cases[i].sql;
        cr_expect_eq(handle(&scene, 1), EVBUS_RETRY, "%s", cases[i].sql);
        tells("must not commit");
        cr_expect_neq(sqlite3_get_autocommit(scene.db), 0, "%s: a transaction is open", cases[i].sql);
        cr_expect_eq(effects(&scene), cases[i].effects, "%s", cases[i].sql);
        cr_expect_eq(rows(&scene), cases[i].effects, "%s", cases[i].sql);
        scene.sql = "UPDATE effect SET n = n + 1";
        cr_expect_eq(handle(&scene, 1), EVBUS_DONE);
        cr_expect_eq(effects(&scene), 1, "%s", cases[i].sql);
        scene_end(&scene);
    }
}

Test(once_sqlite, tells_when_sqlite_has_rolled_back_and_work_has_overlooked_it)
{
    struct scene scene = scene_make();
    scene.overlooks = true;
    scene.sql = "INSERT OR ROLLBACK INTO parent VALUES (1), (1)";
    cr_expect_eq(handle(&scene, 1), EVBUS_RETRY);
    tells("not say done where a statement has failed");
    cr_expect_eq(rows(&scene), 0);
    scene_end(&scene);
}

Test(once_sqlite, lets_work_have_savepoints_of_its_own)
{
    struct scene scene = scene_make();
    scene.sql = "SAVEPOINT mine; UPDATE effect SET n = 50; ROLLBACK TO mine; RELEASE mine;"
                "SAVEPOINT left_open; UPDATE effect SET n = n + 1";
    cr_expect_eq(handle(&scene, 1), EVBUS_DONE, "%s", scene.error);
    cr_expect_eq(effects(&scene), 1);
    cr_expect_eq(rows(&scene), 1);
    scene_end(&scene);
}

Test(once_sqlite, says_what_is_missing_and_lives_without_a_place_for_its_words)
{
    struct scene scene = scene_make();
    struct evbus_delivery event = event_of(1);
    cr_expect_eq(evbus_once_sqlite(NULL, GROUP, &event, work, &scene, scene.error), EVBUS_RELEASE);
    tells("an argument is missing");
    cr_expect_eq(evbus_once_sqlite(scene.db, NULL, &event, work, &scene, NULL), EVBUS_RELEASE);
    cr_expect_eq(evbus_once_sqlite(scene.db, GROUP, NULL, work, &scene, NULL), EVBUS_RELEASE);
    cr_expect_eq(evbus_once_sqlite(scene.db, GROUP, &event, NULL, &scene, NULL), EVBUS_RELEASE);
    cr_expect_eq(evbus_once_sqlite_prepare(NULL, NULL), EVBUS_EINVAL);
    cr_expect_eq(evbus_once_sqlite_prune(scene.db, GROUP, 0, NULL, NULL), EVBUS_EINVAL);
    cr_expect_eq(evbus_once_sqlite_prune(scene.db, NULL, HOUR, NULL, NULL), EVBUS_EINVAL);
    scene.sql = "INSERT INTO nowhere VALUES (1)";
    cr_expect_eq(evbus_once_sqlite(scene.db, GROUP, &event, work, &scene, NULL), EVBUS_RETRY);
    scene_end(&scene);
}

Test(once_sqlite, cuts_what_is_longer_than_an_error_text_may_be)
{
    struct scene scene = scene_make();
    char name[1200];
    struct {
        char error[EVBUS_ERROR_MAX];
        char behind;
    } place = {.behind = 'x'};
    struct evbus_delivery event = event_of(1);
    snprintf(name, sizeof name, "INSERT INTO a%01000d VALUES (1)", 0);
    scene.sql = name;
    cr_expect_eq(evbus_once_sqlite(scene.db, GROUP, &event, work, &scene, place.error), EVBUS_RETRY);
    cr_expect_eq(strlen(place.error), EVBUS_ERROR_MAX - 1u);
    cr_expect_eq(place.behind, 'x');
    scene_end(&scene);
}

Test(once_sqlite, can_be_begun_and_ended_by_a_loop_of_ones_own)
{
    struct scene scene = scene_make();
    struct evbus_delivery event = event_of(1);
    cr_assert_eq(evbus_once_sqlite_begin(scene.db, GROUP, &event, scene.error), EVBUS_OK);
    sql(scene.db, scene.sql);
    cr_expect_eq(evbus_once_sqlite_end(scene.db, EVBUS_REJECT, scene.error), EVBUS_REJECT);
    cr_assert_eq(evbus_once_sqlite_begin(scene.db, GROUP, &event, scene.error), EVBUS_OK);
    sql(scene.db, scene.sql);
    cr_expect_eq(effects(&scene), 0, "it is not committed yet");
    cr_expect_eq(evbus_once_sqlite_end(scene.db, EVBUS_DONE, scene.error), EVBUS_DONE);
    cr_expect_eq(evbus_once_sqlite_begin(scene.db, GROUP, &event, scene.error), EVBUS_EDUPLICATE);
    cr_expect_neq(sqlite3_get_autocommit(scene.db), 0, "nothing is open");
    cr_expect_eq(effects(&scene), 1);
    scene_end(&scene);
}

static int prepare_anew(void *context)
{
    struct scene *scene = context;
    sqlite3 *db;
    int rc = sqlite3_open(scene->path, &db) == SQLITE_OK && sqlite3_busy_timeout(db, 10000) == SQLITE_OK ? EVBUS_OK : 1;
    if (rc == EVBUS_OK)
        rc = evbus_once_sqlite_prepare(db, scene->error);
    if (rc != EVBUS_OK)
        fprintf(stderr, "%d %s\n", rc, scene->error);
    sqlite3_close(db);
    return rc == EVBUS_OK ? 0 : 1;
}

Test(once_sqlite, is_prepared_by_any_number_at_once)
{
    struct scene scene = scene_make();
    sql(scene.db, "DROP TABLE evbus_processed_event");
    struct child children[6];
    for (size_t i = 0; i < 6; i++)
        children[i] = child_start(prepare_anew, &scene);
    for (size_t i = 0; i < 6; i++)
        cr_expect_eq(child_join(&children[i]), 0);
    cr_expect_eq(rows(&scene), 0);
    sqlite3 *other = connect(&scene);
    sql(other, "BEGIN IMMEDIATE"); /* what is there needs no lock */
    cr_expect_eq(evbus_once_sqlite_prepare(scene.db, scene.error), EVBUS_OK);
    sql(other, "DROP TABLE evbus_processed_event; COMMIT; BEGIN IMMEDIATE");
    cr_expect_eq(evbus_once_sqlite_prepare(scene.db, scene.error), EVBUS_EAGAIN);
    tells("locked");
    sqlite3_close(other);
    scene_end(&scene);
}

static void *handle_many(void *context)
{
    struct scene scene = *(const struct scene *)context;
    scene.db = connect(&scene);
    sqlite3_busy_timeout(scene.db, 20000);
    for (uint8_t n = 1; n <= 40; n++)
        cr_expect_eq(handle(&scene, n), EVBUS_DONE, "%s", scene.error);
    sqlite3_close(scene.db);
    return NULL;
}

Test(once_sqlite, has_one_effect_where_two_handle_the_same_event_at_once)
{
    struct scene scene = scene_make();
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, handle_many, &scene), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    cr_expect_eq(effects(&scene), 40);
    scene_end(&scene);
}

Test(once_sqlite, forgets_what_is_old_of_one_group_and_nothing_else)
{
    struct scene scene = scene_make();
    uint64_t n = 0;
    cr_assert_eq(handle(&scene, 1), EVBUS_DONE);
    cr_assert_eq(handle_in(&scene, "other", 1), EVBUS_DONE);
    sql(scene.db,
        "INSERT INTO evbus_processed_event SELECT 'product-service', randomblob(16), processed_at - 7200000000000"
        "  FROM evbus_processed_event, (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c"
        "  WHERE x < 2500) SELECT x FROM c) WHERE consumer_group = 'other'");
    sql(scene.db, "UPDATE evbus_processed_event SET processed_at = 1 WHERE consumer_group = 'other'");
    cr_assert_eq(rows(&scene), 2502);
    cr_expect_eq(evbus_once_sqlite_prune(scene.db, GROUP, 3 * HOUR, &n, scene.error), EVBUS_OK);
    cr_expect_eq(n, 0u);
    cr_expect_eq(evbus_once_sqlite_prune(scene.db, GROUP, HOUR, &n, scene.error), EVBUS_OK, "%s", scene.error);
    cr_expect_eq(n, 2500u);
    cr_expect_eq(rows(&scene), 2);
    cr_expect_eq(handle(&scene, 1), EVBUS_DONE);
    cr_expect_eq(scene.n_calls, 2u, "what is young is there");
    cr_expect_eq(evbus_once_sqlite_prune(scene.db, "other", UINT64_MAX, &n, scene.error), EVBUS_OK);
    cr_expect_eq(n, 0u, "nothing is older than 1970");
    scene_end(&scene);
}

Test(once_sqlite, leaves_the_rest_for_the_next_time_where_it_cannot_forget)
{
    struct scene scene = scene_make();
    uint64_t n = 7;
    sqlite3 *other = connect(&scene);
    cr_assert_eq(handle(&scene, 1), EVBUS_DONE);
    sql(other, "BEGIN IMMEDIATE");
    cr_expect_eq(evbus_once_sqlite_prune(scene.db, GROUP, 1, &n, scene.error), EVBUS_EAGAIN);
    cr_expect_eq(n, 0u);
    tells("locked");
    sqlite3_close(other);
    cr_expect_eq(evbus_once_sqlite_prune(scene.db, GROUP, 1, &n, scene.error), EVBUS_OK);
    cr_expect_eq(n, 1u);
    scene_end(&scene);
}
