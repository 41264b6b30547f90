/* notification.c: notification-service writes mails, each a file mails/<eventId>-<to>.eml.
 *
 *     orders.created      a confirmation to the customer     payments.succeeded   a receipt
 *     bookings.created    one to the customer, one to the team
 *
 * A mail has no transaction; what makes it happen once is its name. It is written beside its place and renamed, so it
 * is there whole or not at all; an event that comes again writes the same file again. (At a real mail server: its
 * Message-ID.)
 *
 *   the kill     in one booking, between its two mails, we give the conductor the cue and wait for its SIGKILL. The
 *                bus sees the death, gives the booking to the next member as attempt 2, and that one writes both.
 *   the bounce   one order's confirmation fails each time: EVBUS_RETRY, with why. After the third attempt the bus puts
 *                it in lomash.dlq.notification-service, and this group goes on. */
#include "mail.h"
#include "service.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* --- texts ------------------------------------------------------------------------------------------------------- */

static struct mail mail_make(const char *customer, const char *format, const char *what, const char *more)
{
    struct mail mail;
    (void)snprintf(mail.to, sizeof mail.to, "%.32s@customers.example", customer);
    (void)snprintf(mail.subject, sizeof mail.subject, "%s %.32s: %.64s", format, what, more);
    return mail;
}

struct mail mail_of_order(const char *customer, const char *order, const char *total)
{
    return mail_make(customer, "Thank you for your order", order, total);
}

struct mail mail_of_payment(const char *customer, const char *order, const char *amount)
{
    return mail_make(customer, "We have received your payment for order", order, amount);
}

struct mail mail_of_booking(const char *customer, const char *booking)
{
    return mail_make(customer, "We look forward to seeing you, booking", booking, customer);
}

struct mail mail_to_team(const char *customer, const char *booking)
{
    struct mail mail = mail_make(customer, "New booking", booking, customer);
    (void)snprintf(mail.to, sizeof mail.to, "%s", MAIL_TEAM);
    return mail;
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static bool send_mail(struct service *service, const struct evbus_delivery *event, const struct mail *mail, char *error)
{
    char id[37];
    char name[512];
    char path[PATH_BYTES];
    char unready[PATH_BYTES];
    char date[64];
    time_t at = (time_t)(event->timestamp_ns / NS_PER_S);
    struct tm utc;
    format_id(event->id, id);
    if (gmtime_r(&at, &utc) == NULL || strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S +0000", &utc) == 0)
        date[0] = '\0';
    (void)snprintf(name, sizeof name, "mails/%s-%s.eml", id, mail->to);
    bool is_good = path_in(path, service->dir, name);
    (void)snprintf(name, sizeof name, "mails/.%s-%s.unready", id, mail->to);
    is_good = is_good && path_in(unready, service->dir, name);
    FILE *file = is_good ? fopen(unready, "we") : NULL;
    if (file != NULL) {
        is_good =
            fprintf(file,
                    "From: Lomash Wood <post@lomashwood.example>\nTo: %s\nSubject: %s\nDate: %s\nMessage-ID: <%s.%s>\n"
                    "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n"
                    "%s.\n\nYours, Lomash Wood\n",
                    mail->to, mail->subject, date, id, mail->to, mail->subject) > 0;
        is_good = fclose(file) == 0 && is_good && rename(unready, path) == 0;
    }
    if (file == NULL || !is_good) {
        (void)snprintf(error, EVBUS_ERROR_MAX, "cannot write a mail: %s", strerror(errno));
        return false;
    }
    count(&service->board->mails);
    return true;
}

/* --- events ------------------------------------------------------------------------------------------------------ */

/* A member of the payload as text; false: the event can never be handled. */
static bool read_member(const struct evbus_delivery *event, const char *name, char out_text[MAIL_TEXT_BYTES],
                        char *error)
{
    size_t len;
    if (evbus_key_of_member(event->payload, event->payload_len, name, out_text, &len) == EVBUS_OK)
        return true;
    (void)snprintf(error, EVBUS_ERROR_MAX, "%s", evbus_message(NULL));
    return false;
}

static enum evbus_outcome handle_booking(struct service *service, const struct evbus_delivery *event,
                                         const char *customer, char *error)
{
    char booking[MAIL_TEXT_BYTES];
    if (!read_member(event, "bookingId", booking, error))
        return EVBUS_REJECT;
    struct mail to_customer = mail_of_booking(customer, booking);
    struct mail to_team = mail_to_team(customer, booking);
    if (!send_mail(service, event, &to_customer, error))
        return EVBUS_RETRY;
    if (event->attempt == 1 && strcmp(booking, MAIL_KILLED) == 0)
        service_wait_to_be_killed(&service->board->kill_me);
    return send_mail(service, event, &to_team, error) ? EVBUS_DONE : EVBUS_RETRY;
}

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    struct service *service = context;
    char customer[MAIL_TEXT_BYTES];
    char order[MAIL_TEXT_BYTES];
    char amount[MAIL_TEXT_BYTES];
    enum topic topic = topic_of(event->topic);
    if (!read_member(event, "customerId", customer, error))
        return EVBUS_REJECT;
    if (topic == BOOKINGS)
        return handle_booking(service, event, customer, error);
    if (!read_member(event, "orderId", order, error) ||
        !read_member(event, topic == ORDERS ? "total" : "amount", amount, error))
        return EVBUS_REJECT;
    struct mail mail = topic == ORDERS ? mail_of_order(customer, order, amount)
                                       : mail_of_payment(customer, order, amount);
    if (topic == ORDERS && strcmp(order, MAIL_BOUNCES) == 0 && !atomic_load(&service->board->address_is_mended)) {
        (void)snprintf(error, EVBUS_ERROR_MAX, "550 5.1.1 <%s>: mailbox unavailable", mail.to);
        return EVBUS_RETRY;
    }
    return send_mail(service, event, &mail, error) ? EVBUS_DONE : EVBUS_RETRY;
}

static bool open_mails(struct service *service)
{
    char path[PATH_BYTES];
    if (path_in(path, service->dir, "mails") && (mkdir(path, 0700) == 0 || errno == EEXIST))
        return true;
    complain("%s/mails: %s", service->dir, strerror(errno));
    return false;
}

const struct service_kind notification_service = {
    .name = "notification-service",
    .group = NOTIFICATION,
    .open = open_mails,
    .handle = handle,
};
