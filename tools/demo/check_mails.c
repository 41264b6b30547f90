/* check_mails.c: are the mails exactly those that orders, payments and bookings ask for?
 *
 *     expected   for each order a confirmation, also the one that bounced at first, and a receipt; for each booking two
 *     found      recipient and subject of each file; the subject says which order, and how much
 *
 * Both lists are sorted and walked side by side: a mail that is missing, one too many, one to somebody else and one
 * over another amount all show. A mail that was left half-made is wrong, too. */
#include "check.h"
#include "mail.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mails {
    struct mail *all;
    size_t n, cap;
};

static void add(struct mails *mails, const struct mail *mail)
{
    if (mails->n == mails->cap) {
        size_t cap = mails->cap * 2 + 256;
        struct mail *more = realloc(mails->all, cap * sizeof *more);
        if (more == NULL)
            return; /* then it is missing */
        mails->all = more;
        mails->cap = cap;
    }
    mails->all[mails->n++] = *mail;
}

static int by_text(const void *a, const void *b)
{
    const struct mail *left = a;
    const struct mail *right = b;
    int to = strcmp(left->to, right->to);
    return to != 0 ? to : strcmp(left->subject, right->subject);
}

static void expect(struct mails *mails, const struct orders *orders, unsigned n_bookings)
{
    size_t first[N_BOOKINGS];
    size_t n = customers_of(orders, first, n_bookings);
    for (size_t i = 0; i < orders->n; i++) {
        const struct order *order = &orders->all[i];
        struct mail mail = mail_of_order(order->customer, order->id, order->total);
        add(mails, &mail);
        mail = mail_of_payment(order->customer, order->id, order->total);
        add(mails, &mail);
    }
    for (size_t i = 0; i < n; i++) {
        char booking[32];
        const char *customer = orders->all[first[i]].customer;
        (void)snprintf(booking, sizeof booking, "B%03zu", i + 1);
        struct mail mail = mail_of_booking(customer, booking);
        add(mails, &mail);
        mail = mail_to_team(customer, booking);
        add(mails, &mail);
    }
}

/* Recipient and subject, from the head of the mail. */
static struct mail read_mail(const char *path)
{
    struct mail mail = {"", ""};
    char line[1024];
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL && line[0] != '\n') {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "To: ", 4) == 0)
            (void)snprintf(mail.to, sizeof mail.to, "%.255s", line + 4);
        else if (strncmp(line, "Subject: ", 9) == 0)
            (void)snprintf(mail.subject, sizeof mail.subject, "%.255s", line + 9);
    }
    if (file != NULL)
        (void)fclose(file);
    return mail;
}

static void find(struct mails *mails, const char *dir)
{
    char folder[PATH_BYTES];
    char path[PATH_BYTES];
    const struct dirent *entry;
    DIR *open = path_in(folder, dir, "mails") ? opendir(folder) : NULL;
    while (open != NULL && (entry = readdir(open)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        struct mail mail = {"", ""};
        if (path_in(path, folder, entry->d_name))
            mail = read_mail(path);
        if (entry->d_name[0] == '.')
            (void)snprintf(mail.subject, sizeof mail.subject, "half-made: %.200s", entry->d_name);
        add(mails, &mail);
    }
    if (open != NULL)
        (void)closedir(open);
}

static size_t compare(const struct mails *expected, const struct mails *found)
{
    size_t n_wrong = 0;
    for (size_t e = 0, f = 0; e < expected->n || f < found->n;) {
        int order = e == expected->n ? 1 : f == found->n ? -1 : by_text(&expected->all[e], &found->all[f]);
        const struct mail *mail = order <= 0 ? &expected->all[e] : &found->all[f];
        if (order != 0 && n_wrong++ < 5)
            complain("a mail %s: to %s: %s", order < 0 ? "is missing" : "is too many", mail->to, mail->subject);
        e += order <= 0;
        f += order >= 0;
    }
    return n_wrong;
}

unsigned check_mails(struct demo *demo, const struct orders *orders)
{
    struct mails expected = {0};
    struct mails found = {0};
    expect(&expected, orders, demo->act->n_bookings);
    find(&found, demo->dir);
    if (expected.n != 0)
        qsort(expected.all, expected.n, sizeof *expected.all, by_text);
    if (found.n != 0)
        qsort(found.all, found.n, sizeof *found.all, by_text);
    size_t n_wrong = compare(&expected, &found);
    unsigned n = check_say(n_wrong == 0 && expected.n != 0,
                           "mails: %zu of %zu; %zu confirmations, %zu receipts, %u for bookings", found.n, expected.n,
                           orders->n, orders->n, 2 * demo->act->n_bookings);
    free(expected.all);
    free(found.all);
    return n;
}
