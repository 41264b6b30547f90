/* threads.c: the threads of this process. */
#include "threads.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

unsigned count_threads(const char *name)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char path[300], comm[32] = "";
        if (entry->d_name[0] == '.') /* or the process would be one more */
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "re");
        if (file == NULL)
            continue;
        if (fgets(comm, sizeof comm, file) != NULL)
            comm[strcspn(comm, "\n")] = '\0';
        fclose(file);
        n += comm[0] != '\0' && (name == NULL || strcmp(comm, name) == 0);
    }
    closedir(dir);
    return n;
}
