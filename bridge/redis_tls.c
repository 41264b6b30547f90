/* redis_tls.c: TLS on a non-blocking socket, with the other side's certificate checked, always.
 *
 * All of OpenSSL is in here. The certificate must be signed by whom we trust and be for the name that the operator
 * has written (tls_name, else the host of the URL); there is no way to do without: who wants no check wants no TLS.
 * TLS 1.2 is the least.
 *
 * Either of reading and writing may have to wait for the socket in the other direction (a key update, a handshake):
 * the session remembers for which, and whoever polls asks it. What could not be written is offered again, perhaps
 * longer and elsewhere in memory: hence the two modes.
 *
 * OpenSSL's own socket BIO uses write(), which raises SIGPIPE on a connection that has ended; ours sends without.
 * Checked by tests/broker/test_redis_conn.c. */
#include "redis_tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <evbus/evbus.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

struct redis_tls {
    SSL_CTX *context;
    BIO_METHOD *socket;
    char name[256];
};

struct redis_tls_session {
    struct redis_tls *tls;
    SSL *ssl;
    int fd;
    bool wants_write;
};

/* --- a socket as OpenSSL wants it --------------------------------------------------------------------------------- */

static int socket_write(BIO *bio, const char *from, int len)
{
    const struct redis_tls_session *session = BIO_get_data(bio);
    ssize_t n = send(session->fd, from, (size_t)len, MSG_NOSIGNAL);
    BIO_clear_retry_flags(bio);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_write(bio);
    return (int)n;
}

static int socket_read(BIO *bio, char *into, int cap)
{
    const struct redis_tls_session *session = BIO_get_data(bio);
    ssize_t n = recv(session->fd, into, (size_t)cap, 0);
    BIO_clear_retry_flags(bio);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(bio);
    if (n == 0)
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    return (int)n;
}

static long socket_control(BIO *bio, int command, long number, void *pointer)
{
    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_EOF)
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *socket_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket without SIGPIPE");
    if (method != NULL && (!BIO_meth_set_write(method, socket_write) || !BIO_meth_set_read(method, socket_read) ||
                           !BIO_meth_set_ctrl(method, socket_control))) {
        BIO_meth_free(method);
        return NULL;
    }
    return method;
}

/* --- whom we trust ------------------------------------------------------------------------------------------------ */

/* OpenSSL's first word, for a message: those behind it say where it came through. */
static const char *reason(void)
{
    unsigned long code = ERR_peek_error();
    const char *text = ERR_reason_error_string(code);
    return text != NULL                       ? text
           : ERR_GET_LIB(code) == ERR_LIB_SYS ? strerror(ERR_GET_REASON(code))
                                              : "no reason is given";
}

static bool load_trust(SSL_CTX *context, const struct redis_tls_options *options, char *error)
{
    struct stat found;
    if (options->ca[0] == '\0') {
        if (SSL_CTX_set_default_verify_paths(context) == 1)
            return true;
        snprintf(error, EVBUS_ERROR_MAX, "the system's certificates: %s; set tls_ca", reason());
        return false;
    }
    if (stat(options->ca, &found) != 0) {
        snprintf(error, EVBUS_ERROR_MAX, "tls_ca %.300s: %s", options->ca, strerror(errno));
        return false;
    }
    bool is_folder = S_ISDIR(found.st_mode);
    if (is_folder ? SSL_CTX_load_verify_dir(context, options->ca) == 1
                  : SSL_CTX_load_verify_file(context, options->ca) == 1)
        return true;
    snprintf(error, EVBUS_ERROR_MAX, "tls_ca %.300s: %s; it must hold certificates in PEM", options->ca, reason());
    return false;
}

static bool load_own(SSL_CTX *context, const struct redis_tls_options *options, char *error)
{
    if (options->cert[0] == '\0' && options->key[0] == '\0')
        return true;
    if (options->cert[0] == '\0' || options->key[0] == '\0') {
        snprintf(error, EVBUS_ERROR_MAX, "%s is set, %s is not: both are needed, or none",
                 options->cert[0] != '\0' ? "tls_cert" : "tls_key", options->cert[0] != '\0' ? "tls_key" : "tls_cert");
        return false;
    }
    if (SSL_CTX_use_certificate_chain_file(context, options->cert) != 1) {
        snprintf(error, EVBUS_ERROR_MAX, "tls_cert %.300s: %s", options->cert, reason());
        return false;
    }
    if (SSL_CTX_use_PrivateKey_file(context, options->key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(context) != 1) {
        snprintf(error, EVBUS_ERROR_MAX, "tls_key %.300s: %s", options->key, reason());
        return false;
    }
    return true;
}

struct redis_tls *redis_tls_open(const struct redis_tls_options *options, char *error)
{
    struct redis_tls *tls = calloc(1, sizeof *tls);
    snprintf(error, EVBUS_ERROR_MAX, "no memory for TLS");
    if (tls == NULL)
        return NULL;
    snprintf(tls->name, sizeof tls->name, "%s", options->name);
    ERR_clear_error();
    tls->socket = socket_method();
    tls->context = SSL_CTX_new(TLS_client_method());
    if (tls->socket == NULL || tls->context == NULL)
        goto fail;
    SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION);
    SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(tls->context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (!load_trust(tls->context, options, error) || !load_own(tls->context, options, error))
        goto fail;
    ERR_clear_error();
    return tls;
fail:
    redis_tls_close(tls);
    ERR_clear_error();
    return NULL;
}

void redis_tls_close(struct redis_tls *tls)
{
    if (tls == NULL)
        return;
    SSL_CTX_free(tls->context);
    BIO_meth_free(tls->socket);
    free(tls);
}

/* --- a connection ------------------------------------------------------------------------------------------------- */

static bool is_address(const char *name)
{
    struct in6_addr address;
    return inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
}

struct redis_tls_session *redis_tls_start(struct redis_tls *tls, int fd)
{
    struct redis_tls_session *session = calloc(1, sizeof *session);
    BIO *bio = NULL;
    if (session == NULL)
        return NULL;
    session->tls = tls;
    session->fd = fd;
    session->ssl = SSL_new(tls->context);
    if (session->ssl == NULL || (bio = BIO_new(tls->socket)) == NULL)
        goto fail;
    BIO_set_data(bio, session);
    BIO_set_init(bio, 1);
    SSL_set_bio(session->ssl, bio, bio);
    if (is_address(tls->name)) {
        if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session->ssl), tls->name) != 1)
            goto fail;
    } else if (SSL_set1_host(session->ssl, tls->name) != 1 || SSL_set_tlsext_host_name(session->ssl, tls->name) != 1) {
        goto fail;
    }
    SSL_set_connect_state(session->ssl);
    return session;
fail:
    redis_tls_end(session);
    return NULL;
}

void redis_tls_end(struct redis_tls_session *session)
{
    if (session == NULL)
        return;
    SSL_free(session->ssl); /* and its BIO */
    free(session);
}

static const char *mend_of_verification(long result)
{
    switch (result) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return "if this is the right server, set tls_name to a name that its certificate has";
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return "renew the server's certificate";
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "look at the clocks of both hosts";
    default:
        return "set tls_ca to the certificate of who has signed the server's";
    }
}

/* What a call that did not succeed means. */
static enum redis_tls_result judge(struct redis_tls_session *session, int returned, char *why)
{
    int number = errno;
    long verified = SSL_get_verify_result(session->ssl);
    switch (SSL_get_error(session->ssl, returned)) {
    case SSL_ERROR_WANT_READ:
        session->wants_write = false;
        return REDIS_TLS_WAIT;
    case SSL_ERROR_WANT_WRITE:
        session->wants_write = true;
        return REDIS_TLS_WAIT;
    case SSL_ERROR_ZERO_RETURN:
        return REDIS_TLS_END;
    case SSL_ERROR_SYSCALL:
        if (returned == 0 || number == 0)
            return REDIS_TLS_END;
        snprintf(why, EVBUS_ERROR_MAX, "%s", strerror(number));
        return REDIS_TLS_FAILED;
    default:
        break;
    }
    int code = ERR_GET_REASON(ERR_peek_error());
    if (code == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return REDIS_TLS_END;
    if (code == SSL_R_CERTIFICATE_VERIFY_FAILED)
        snprintf(why, EVBUS_ERROR_MAX, "TLS: the certificate is not accepted for %.200s: %s; %s", session->tls->name,
                 X509_verify_cert_error_string(verified), mend_of_verification(verified));
    else if (code == SSL_R_WRONG_VERSION_NUMBER)
        snprintf(
            why, EVBUS_ERROR_MAX,
            "TLS: the other side does not speak it; is its port the one of `tls-port`? Without TLS it is redis://");
    else if (code == SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED || code == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE)
        snprintf(why, EVBUS_ERROR_MAX, "TLS: %s; the server asks for our certificate: set tls_cert and tls_key",
                 reason());
    else
        snprintf(why, EVBUS_ERROR_MAX, "TLS: %s", reason());
    return REDIS_TLS_FAILED;
}

static void prepare(struct redis_tls_session *session)
{
    ERR_clear_error(); /* what is left there, judge() would take for ours */
    errno = 0;
    session->wants_write = false;
}

enum redis_tls_result redis_tls_handshake(struct redis_tls_session *session, char *why)
{
    prepare(session);
    int returned = SSL_do_handshake(session->ssl);
    return returned == 1 ? REDIS_TLS_OK : judge(session, returned, why);
}

enum redis_tls_result redis_tls_read(struct redis_tls_session *session, void *into, size_t cap, size_t *out_len,
                                     char *why)
{
    prepare(session);
    int returned = SSL_read_ex(session->ssl, into, cap, out_len);
    return returned == 1 ? REDIS_TLS_OK : judge(session, returned, why);
}

enum redis_tls_result redis_tls_write(struct redis_tls_session *session, const void *from, size_t len, size_t *out_len,
                                      char *why)
{
    prepare(session);
    int returned = SSL_write_ex(session->ssl, from, len, out_len);
    return returned == 1 ? REDIS_TLS_OK : judge(session, returned, why);
}

bool redis_tls_wants_write(const struct redis_tls_session *session)
{
    return session->wants_write;
}
