/* mail.h: what the mails of notification-service look like: one place for who writes them and who checks them. */
#ifndef DEMO_MAIL_H
#define DEMO_MAIL_H

#include <stdbool.h>

#define MAIL_BOUNCES "10400" /* the confirmation of this order bounces until somebody mends the address */
#define MAIL_KILLED  "B015"  /* in the middle of this booking the service is killed, once */
#define MAIL_TEAM    "showroom@lomashwood.example" /* hears of each booking */

#define MAIL_TEXT_BYTES 256

/* Who gets it, and its subject, which says what and how much. */
struct mail {
    char to[MAIL_TEXT_BYTES];
    char subject[MAIL_TEXT_BYTES];
};

struct mail mail_of_order(const char *customer, const char *order, const char *total);
struct mail mail_of_payment(const char *customer, const char *order, const char *amount);
struct mail mail_of_booking(const char *customer, const char *booking);
struct mail mail_to_team(const char *customer, const char *booking);

#endif
