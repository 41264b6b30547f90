/* config.c: any bytes as an evbus.conf are understood whole or refused with what is wrong; what was understood is printed so that it reads back as
 * the same, and no password of a URL is shown to anybody.
 *
 * Input: the file; what stands behind a first NUL byte is KEY=VALUE settings, a line each, as by --set. */
#include "config.h"

#include "broker_url.h"
#include "config_keys.h"
#include "http_address.h"

#include <evbus/evbus.h>

#include "fuzz.h"

enum { SETTINGS_MAX = 16 };

static size_t n_told;

static void tell(void *context, const char *problem)
{
    (void)context;
    size_t len = strlen(problem);
    must(len > 0 && len < CONFIG_PROBLEM_MAX, "a problem of %zu bytes", len);
    must(strchr(problem, '\n') == NULL, "more than one line: %s", problem);
    n_told++;
}

static int read_config(const char *text, size_t len, const struct config_setting *settings, size_t n,
                       struct config *config, struct config_origins *origins)
{
    struct config_reading reading = {
        .path = "fuzz.conf", .text = text, .text_len = len, .settings = settings, .n_settings = n, .tell = tell};
    n_told = 0;
    int rc = config_read(&reading, config, origins);
    must(rc == EVBUS_OK || rc == EVBUS_EINVAL || rc == EVBUS_ECONFIG, "code %d", rc);
    must((rc == EVBUS_OK) == (n_told == 0), "code %d with %zu problems", rc, n_told);
    must(rc != EVBUS_EINVAL || n > 0, "the command line is wrong, which says nothing");
    return rc;
}

/* Each key's value is in its bounds, whatever was read. */
static void look_at(const struct config *config)
{
    struct broker_url url;
    struct http_address address;
    char why[CONFIG_PROBLEM_MAX] = "";
    must(broker_url_read(config->broker, &url, why), "broker %s: %s", config->broker, why);
    must(config->metrics[0] == '\0' || http_address_read(config->metrics, &address, why), "metrics %s: %s",
         config->metrics, why);
    must(config->name[0] != '\0' && config->bus[0] != '\0', "no name");
    must(config->n_topics <= CONFIG_TOPICS_MAX && config->batches >= 1 && config->batches <= 64, "out of bounds");
    must(config->out || config->in, "nothing to do");
}

static void print_and_read(const struct config *config, const struct config_origins *origins)
{
    char *text = NULL;
    size_t len = 0;
    static struct config again;
    struct config_origins again_origins;
    FILE *file = open_memstream(&text, &len);
    must(file != NULL, "no memory");
    config_print(config, origins, file);
    must(fclose(file) == 0, "no memory");
    must(read_config(text, len, NULL, 0, &again, &again_origins) == EVBUS_OK, "what is printed does not read back:\n%s",
         text);
    must(memcmp(config, &again, sizeof again) == 0, "it reads back as another:\n%s", text);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct config config;
    struct config_origins origins;
    struct config_setting settings[SETTINGS_MAX];
    const uint8_t *nul = len > 0 ? memchr(data, '\0', len) : NULL;
    size_t file_len = nul != NULL ? (size_t)(nul - data) : len, n = 0;
    char *text = fuzz_copy(data, file_len, false);
    char *rest = fuzz_copy(nul != NULL ? nul + 1 : data, nul != NULL ? len - file_len - 1 : 0, true);
    for (char *line = strtok(rest, "\n"); line != NULL && n < SETTINGS_MAX; line = strtok(NULL, "\n")) {
        char *equals = strchr(line, '=');
        if (equals == NULL)
            continue;
        *equals = '\0';
        settings[n++] = (struct config_setting){.option = "--set", .key = line, .value = equals + 1};
    }
    if (read_config(text, file_len, settings, n, &config, &origins) == EVBUS_OK) {
        look_at(&config);
        print_and_read(&config, &origins);
    }
    free(text);
    free(rest);
    return 0;
}
