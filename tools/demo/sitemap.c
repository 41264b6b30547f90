/* sitemap.c: a consumer that nobody thought of when the others were written: it regenerates sitemap.xml with each blog
 * post.
 *
 *     added       one more name in the catalogue, applied while all runs; no line of content-service knows of it
 *     delivered   posts from then on; each is the occasion to write the file
 *     read        all posts, those before its time too, by a reader from the earliest: reading consumes nothing, so the
 *                 history is everybody's, also what stands in files alone
 *
 * The whole file is written anew each time, beside its place, and renamed: to do it twice is to do it once. */
#include "service.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define POSTS_MAX 64

struct posts {
    char slugs[POSTS_MAX][256];
    size_t n;
};

/* Slugs become part of XML as they are. */
static bool is_slug(const char *text)
{
    return text[0] != '\0' && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(text);
}

static void add(struct posts *posts, const struct evbus_delivery *event)
{
    char slug[256];
    size_t len;
    if (evbus_key_of_member(event->payload, event->payload_len, "slug", slug, &len) != EVBUS_OK || !is_slug(slug) ||
        posts->n == POSTS_MAX)
        return;
    for (size_t i = 0; i < posts->n; i++)
        if (strcmp(posts->slugs[i], slug) == 0)
            return; /* a post that was changed, or published twice */
    memcpy(posts->slugs[posts->n++], slug, len + 1);
}

static bool read_posts(struct service *service, struct posts *posts, char *error)
{
    struct evbus_reader *reader = NULL;
    struct evbus_delivery event = {.size = sizeof event};
    int rc = evbus_reader_open(&reader, service->bus,
                               &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                              .patterns = &topic_names[POSTS],
                                                              .n_patterns = 1,
                                                              .from = EVBUS_FROM_EARLIEST});
    while (rc == EVBUS_OK && (rc = evbus_reader_next(reader, &event, 0)) == EVBUS_OK)
        add(posts, &event);
    if (rc != EVBUS_ETIMEOUT) /* all are read */
        (void)snprintf(error, EVBUS_ERROR_MAX, "%s", evbus_message(service->bus));
    evbus_reader_close(reader);
    return rc == EVBUS_ETIMEOUT;
}

static bool write_sitemap(struct service *service, const struct posts *posts, char *error)
{
    char path[PATH_BYTES];
    char unready[PATH_BYTES];
    bool is_good = path_in(path, service->dir, "sitemap.xml") && path_in(unready, service->dir, ".sitemap.unready");
    FILE *file = is_good ? fopen(unready, "we") : NULL;
    if (file != NULL) {
        (void)fprintf(file, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                            "<urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n");
        for (size_t i = 0; i < posts->n; i++)
            (void)fprintf(file, "  <url><loc>https://www.lomashwood.example/blog/%s</loc></url>\n", posts->slugs[i]);
        (void)fprintf(file, "</urlset>\n");
        is_good = ferror(file) == 0; /* for all of them */
        is_good = fclose(file) == 0 && is_good && rename(unready, path) == 0;
    }
    if (file == NULL || !is_good)
        (void)snprintf(error, EVBUS_ERROR_MAX, "cannot write sitemap.xml: %s", strerror(errno));
    return file != NULL && is_good;
}

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    struct service *service = context;
    struct posts posts = {.n = 0};
    (void)event; /* only the occasion */
    return read_posts(service, &posts, error) && write_sitemap(service, &posts, error) ? EVBUS_DONE : EVBUS_RETRY;
}

const struct service_kind sitemap_service = {
    .name = "sitemap",
    .group = SITEMAP,
    .handle = handle,
};
