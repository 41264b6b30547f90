/* backup_draft.h: the folder in which a backup grows, until it has its name. See backup_draft.c. */
#ifndef EVBUS_BACKUP_DRAFT_H
#define EVBUS_BACKUP_DRAFT_H

#include "file.h"
#include "layout.h"

struct backup_draft {
    char bus[SERVICE_BYTES];
    char source[FILE_PATH_MAX]; /* the bus's folder */
    char dir[FILE_PATH_MAX];    /* where the copy goes */
    char target[FILE_PATH_MAX]; /* what it will be called */
    char path[FILE_PATH_MAX];   /* "": there is none, or it has its name */
    int fd;                     /* has its lock; -1 */
    mode_t mode;                /* of the bus's folder; and its group */
    gid_t group;
};

/* Makes it below dir, which is made, too. What backups that were killed have left there goes. EVBUS_EDUPLICATE (the copy of that name is
 * there); EVBUS_EINVAL (dir lies in the bus's folder); EVBUS_EBUSY; and as file_failed() says. To be ended, whatever comes. */
int backup_draft_make(struct backup_draft *out_draft, const char *bus, const char *source, const char *dir,
                      struct error *err);

/* All of it is on disk: it gets its name. */
int backup_draft_give_name(struct backup_draft *draft, struct error *err);

/* Without a name it is removed. */
void backup_draft_end(struct backup_draft *draft);

#endif
