/* proc.c: what /proc says of a thread: for the doctor's eyes only.
 *
 * Nothing of the protocol rests on it: who is dead the kernel tells by lock words (slot.c), who is slow is told by patience. A pid
 * means something in its own PID namespace only, so threads of others are not looked at: their number is another thread's here.
 * Checked by tests/unit/test_doctor.c. */
#include "proc.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The front of a small file, as a string. */
static bool read_text(const char *path, char *out_text, size_t cap)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t len = fread(out_text, 1, cap - 1, file);
    fclose(file);
    out_text[len] = '\0';
    return len > 0;
}

/* "0::/a/b" or "5:freezer:/a/b" tells the cgroup; its own file tells whether it is frozen. */
static bool is_frozen(int32_t pid)
{
    char path[64];
    char groups[4096];
    snprintf(path, sizeof path, "/proc/%" PRId32 "/cgroup", pid);
    if (!read_text(path, groups, sizeof groups))
        return false;
    for (const char *line = groups; *line != '\0';) {
        int len = (int)strcspn(line, "\n");
        const char *name = strchr(line, '/');
        bool is_v2 = strncmp(line, "0::", 3) == 0;
        bool is_v1 = strstr(line, ":freezer:") != NULL && strstr(line, ":freezer:") < line + len;
        char file[4352];
        char text[256];
        if (name != NULL && name < line + len && (is_v1 || is_v2)) {
            snprintf(file, sizeof file,
                     is_v2 ? "/sys/fs/cgroup%.*s/cgroup.events" : "/sys/fs/cgroup/freezer%.*s/freezer.state",
                     (int)(line + len - name), name);
            if (read_text(file, text, sizeof text) && strstr(text, is_v2 ? "frozen 1" : "FROZEN") != NULL)
                return true;
        }
        line += len + (line[len] == '\n');
    }
    return false;
}

bool proc_is_here(const struct slot *slot)
{
    struct stat ours;
    return stat("/proc/self/ns/pid", &ours) == 0 &&
           (uint64_t)ours.st_ino == atomic_load_explicit(&slot->pid_ns, memory_order_relaxed);
}

enum proc_halt proc_look(const struct slot *slot)
{
    char path[64];
    char text[256];
    int32_t pid = atomic_load_explicit(&slot->pid, memory_order_relaxed);
    int32_t tid = atomic_load_explicit(&slot->tid, memory_order_relaxed);
    if (!proc_is_here(slot))
        return PROC_GOES_ON;
    snprintf(path, sizeof path, "/proc/%" PRId32 "/task/%" PRId32 "/stat", pid, tid);
    if (!read_text(path, text, sizeof text))
        return PROC_GOES_ON;
    const char *end = strrchr(text, ')'); /* the name in parentheses may hold anything */
    char state = end != NULL && end[1] == ' ' ? end[2] : '\0';
    if (state == 'T')
        return PROC_STOPPED;
    if (state == 't')
        return PROC_TRACED;
    return is_frozen(pid) ? PROC_FROZEN : PROC_GOES_ON;
}

const char *proc_by(enum proc_halt halt)
{
    return halt == PROC_TRACED ? " by a debugger" : halt == PROC_FROZEN ? " by the cgroup freezer" : "";
}
