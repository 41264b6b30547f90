/* replay.c: a target without a fuzzer: every input of its corpus once. Its argument is the corpus; the name of an input
 * comes before what it makes the target say. */
#include "fuzz.h"

#include <dirent.h>

static void replay(const char *folder, const char *name)
{
    static uint8_t bytes[1 << 20];
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    must(file != NULL, "%s: cannot be opened", path);
    size_t len = fread(bytes, 1, sizeof bytes, file);
    must(ferror(file) == 0 && len < sizeof bytes, "%s: cannot be read, or is too large", path);
    fclose(file);
    fprintf(stderr, "%s\n", name);
    uint8_t *copy = fuzz_copy(bytes, len, false);
    LLVMFuzzerTestOneInput(copy, len);
    free(copy);
}

int main(int argc, char **argv)
{
    unsigned n = 0;
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    must(folder != NULL, "usage: %s CORPUS", argv[0]);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (entry->d_name[0] != '.') {
            replay(argv[1], entry->d_name);
            n++;
        }
    closedir(folder);
    fprintf(stderr, "%u passed, 0 failed\n", n);
    return 0;
}
