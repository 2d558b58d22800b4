/*
 * Sends one trigger of a sensor to a Tocsin server, as a device would: learns the time, signs, posts, and does with the
 * answer what it asks for. HTTP/1.1 over the sockets of mbedTLS, plain or with TLS.
 *
 *   TOCSIN_API_KEY=… ./post <http|https>://<host>:<port> <device id> <file with the private key, 64 hex digits> \
 *       <envelope id> <thousandths> [--tries <n>] [--blind] [--clock-error <ms>] [--ca <file>]
 *
 * --blind does not ask for the time first; --clock-error lets the clock of this machine be wrong: both to see what the
 * server says then. Prints one line for each answer. Ends with 0 delivered, 1 set aside or held, 2 still waiting after all
 * tries, 64 wrong use, 65 no key.
 */
#define _POSIX_C_SOURCE 200809L
#include "tocsin_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>

#define ANSWER_ROOM 4096
#define ANSWER_WAIT_MS 10000
#define SHORT 64

/* The connection: one request, one answer, closed. */
typedef struct {
  mbedtls_net_context socket;
  mbedtls_ssl_context ssl;
  bool tls;
} connection;

typedef struct {
  int status; /* 0: no answer */
  char code[TOCSIN_CODE_MAX + 1];
  char date[SHORT];
  char retry_after[SHORT];
  int64_t sent, received;
} answer;

static mbedtls_ctr_drbg_context drbg;
static mbedtls_ssl_config tls_config;
static mbedtls_x509_crt authority;
static const char *host, *port;
static bool use_tls;
static int64_t clock_error, clock_offset;

/* This machine's clock, as wrong as we were told that it is. */
static int64_t local_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + clock_error;
}

static int64_t server_time(void) { return local_time() + clock_offset; }

static void pause_for(int64_t ms) {
  struct timespec rest = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
  nanosleep(&rest, NULL);
}

/* ---- HTTP -------------------------------------------------------------------------------------------------------- */

static bool open_connection(connection *c) {
  mbedtls_net_init(&c->socket);
  mbedtls_ssl_init(&c->ssl);
  c->tls = use_tls;
  if (mbedtls_net_connect(&c->socket, host, port, MBEDTLS_NET_PROTO_TCP) != 0) return false;
  if (!c->tls) return true;
  if (mbedtls_ssl_setup(&c->ssl, &tls_config) != 0 || mbedtls_ssl_set_hostname(&c->ssl, host) != 0) return false;
  mbedtls_ssl_set_bio(&c->ssl, &c->socket, mbedtls_net_send, NULL, mbedtls_net_recv_timeout);
  return mbedtls_ssl_handshake(&c->ssl) == 0;
}

static void close_connection(connection *c) {
  if (c->tls) mbedtls_ssl_close_notify(&c->ssl);
  mbedtls_ssl_free(&c->ssl);
  mbedtls_net_free(&c->socket);
}

static bool send_all(connection *c, const char *bytes, size_t size) {
  while (size > 0) {
    const unsigned char *next = (const unsigned char *)bytes;
    int sent = c->tls ? mbedtls_ssl_write(&c->ssl, next, size) : mbedtls_net_send(&c->socket, next, size);
    if (sent <= 0) return false;
    bytes += sent;
    size -= (size_t)sent;
  }
  return true;
}

/* Reads to the end of the connection, as much as there is room for. */
static size_t receive_all(connection *c, char *bytes, size_t room) {
  size_t size = 0;
  while (size < room) {
    unsigned char *next = (unsigned char *)bytes + size;
    int got = c->tls ? mbedtls_ssl_read(&c->ssl, next, room - size)
                     : mbedtls_net_recv_timeout(&c->socket, next, room - size, ANSWER_WAIT_MS);
    if (got <= 0) break;
    size += (size_t)got;
  }
  return size;
}

/* The value of a header; "" when it is absent or too long. `text` ends with an end of string. */
static void header_of(const char *text, const char *name, char value[SHORT]) {
  size_t lead = strlen(name);
  value[0] = '\0';
  for (const char *line = strstr(text, "\r\n"); line != NULL && strncmp(line, "\r\n\r\n", 4) != 0;
       line = strstr(line + 2, "\r\n")) {
    if (strncasecmp(line + 2, name, lead) != 0 || line[2 + lead] != ':') continue;
    const char *start = line + 3 + lead;
    start += strspn(start, " ");
    size_t length = strcspn(start, "\r");
    if (length >= SHORT) return;
    memcpy(value, start, length);
    value[length] = '\0';
    return;
  }
}

static void exchange(const char *head, const char *body, answer *result) {
  static char text[ANSWER_ROOM + 1];
  connection c;
  memset(result, 0, sizeof *result);
  result->sent = local_time();
  bool whole = open_connection(&c) && send_all(&c, head, strlen(head)) && send_all(&c, body, strlen(body));
  size_t size = whole ? receive_all(&c, text, ANSWER_ROOM) : 0;
  close_connection(&c);
  result->received = local_time();
  text[size] = '\0';
  const char *content = strstr(text, "\r\n\r\n");
  if (content == NULL || strncmp(text, "HTTP/1.1 ", 9) != 0) return;
  result->status = atoi(text + 9);
  header_of(text, "date", result->date);
  header_of(text, "retry-after", result->retry_after);
  tocsin_problem_code(content, size - (size_t)(content - text), result->code);
}

/* Every answer tells the time, also a refusal. */
static void learn_time(const answer *result) {
  int64_t least, most;
  if (tocsin_clock_bounds(result->sent, result->received, result->date, &least, &most))
    clock_offset = tocsin_clock_settle(clock_offset, least, most);
}

static void ask_time(void) {
  char head[256];
  answer result;
  snprintf(head, sizeof head, "GET /health/live HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n\r\n", host, port);
  exchange(head, "", &result);
  learn_time(&result);
}

static void post(const char *api_key, const char *jws, answer *result) {
  char head[512];
  int length = snprintf(head, sizeof head,
                        "POST /v1/readings HTTP/1.1\r\nHost: %s:%s\r\nX-API-Key: %s\r\n"
                        "Content-Type: application/jose\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
                        host, port, api_key, strlen(jws));
  memset(result, 0, sizeof *result);
  if (length > 0 && (size_t)length < sizeof head) exchange(head, jws, result);
}

/* ---- The device -------------------------------------------------------------------------------------------------- */

static int64_t waiting_time(const answer *result, tocsin_action action, unsigned attempt) {
  uint32_t random;
  int64_t asked = tocsin_retry_after(result->retry_after, result->date);
  if (action == TOCSIN_RESIGN) return 0;
  if (asked >= 0) return asked;
  if (mbedtls_ctr_drbg_random(&drbg, (unsigned char *)&random, sizeof random) != 0) random = 0;
  return tocsin_backoff(attempt, random);
}

/* Sends until it is decided, at most `tries` times. The id and the readings stay; only the time of signing changes. */
static int deliver(tocsin_device *device, tocsin_payload *payload, const char *api_key, unsigned tries) {
  static const char *const ACTIONS[] = {"delivered", "set-aside", "resign", "wait", "hold"};
  char jws[1024];
  answer result;
  for (unsigned attempt = 0; attempt < tries; attempt += 1) {
    if (tocsin_payload_set_at(payload, server_time()) != TOCSIN_OK) ask_time();
    if (tocsin_payload_set_at(payload, server_time()) != TOCSIN_OK ||
        tocsin_seal(device, payload, jws, sizeof jws) != TOCSIN_OK)
      return 2;
    post(api_key, jws, &result);
    learn_time(&result);
    tocsin_action action = tocsin_decide(result.status, result.code);
    printf("%d %s %s\n", result.status, result.code[0] == '\0' ? "-" : result.code, ACTIONS[action]);
    fflush(stdout);
    if (action == TOCSIN_DELIVERED) return 0;
    if (action == TOCSIN_SET_ASIDE || action == TOCSIN_HOLD) return 1;
    if (attempt + 1 < tries) pause_for(waiting_time(&result, action, attempt));
  }
  return 2;
}

static bool read_key(const char *path, unsigned char scalar[32]) {
  char hex[65] = "";
  FILE *file = fopen(path, "r");
  if (file == NULL) return false;
  size_t size = fread(hex, 1, 64, file);
  fclose(file);
  if (size != 64 || strspn(hex, "0123456789abcdefABCDEF") != 64) return false;
  for (int i = 0; i < 32; i += 1) {
    char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
    scalar[i] = (unsigned char)strtoul(pair, NULL, 16);
  }
  return true;
}

static bool read_url(char *url) {
  char *name = strstr(url, "://"), *colon = strrchr(url, ':');
  if (name == NULL || colon <= name + 2) return false;
  use_tls = strncmp(url, "https", 5) == 0;
  host = name + 3;
  port = colon + 1;
  *colon = '\0';
  return true;
}

/* TLS: the server's certificate must lead to `ca`, and name the host. */
static bool prepare_tls(const char *ca) {
  mbedtls_x509_crt_init(&authority);
  mbedtls_ssl_config_init(&tls_config);
  if (!use_tls) return true;
  if (ca == NULL || mbedtls_x509_crt_parse_file(&authority, ca) != 0) return false;
  if (mbedtls_ssl_config_defaults(&tls_config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                  MBEDTLS_SSL_PRESET_DEFAULT) != 0)
    return false;
  mbedtls_ssl_conf_authmode(&tls_config, MBEDTLS_SSL_VERIFY_REQUIRED);
  mbedtls_ssl_conf_ca_chain(&tls_config, &authority, NULL);
  mbedtls_ssl_conf_rng(&tls_config, mbedtls_ctr_drbg_random, &drbg);
  mbedtls_ssl_conf_read_timeout(&tls_config, ANSWER_WAIT_MS);
  return true;
}

static int run(const char *id, const char *key_file, const char *envelope, long long thousandths, unsigned tries) {
  const char *api_key = getenv("TOCSIN_API_KEY");
  unsigned char scalar[32];
  char text[512];
  tocsin_device device;
  tocsin_payload payload;
  if (api_key == NULL || !read_key(key_file, scalar)) return 65;
  int status = 65;
  if (tocsin_device_init(&device, id, scalar, mbedtls_ctr_drbg_random, &drbg) == TOCSIN_OK) {
    int64_t now = server_time();
    tocsin_payload_begin(&payload, text, sizeof text, envelope, now, "seismic");
    tocsin_reading_begin(&payload);
    tocsin_integer(&payload, "at", now);
    tocsin_decimal(&payload, "value", thousandths, 3);
    tocsin_reading_end(&payload);
    status = tocsin_payload_end(&payload) == TOCSIN_OK ? deliver(&device, &payload, api_key, tries) : 64;
  }
  tocsin_device_free(&device);
  memset(scalar, 0, sizeof scalar);
  return status;
}

int main(int count, char **arguments) {
  const char *ca = NULL;
  unsigned tries = 5;
  bool blind = false;
  if (count < 6 || !read_url(arguments[1])) {
    fprintf(stderr, "usage: see the head of post.c\n");
    return 64;
  }
  for (int i = 6; i < count; i += 1) {
    bool more = i + 1 < count;
    if (strcmp(arguments[i], "--blind") == 0) blind = true;
    else if (more && strcmp(arguments[i], "--tries") == 0) tries = (unsigned)atoi(arguments[++i]);
    else if (more && strcmp(arguments[i], "--clock-error") == 0) clock_error = strtoll(arguments[++i], NULL, 10);
    else if (more && strcmp(arguments[i], "--ca") == 0) ca = arguments[++i];
    else return 64;
  }
  mbedtls_entropy_context entropy;
  mbedtls_entropy_init(&entropy);
  mbedtls_ctr_drbg_init(&drbg);
  int status = 65;
  if (mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL, 0) == 0 && prepare_tls(ca)) {
    if (!blind) ask_time();
    status = run(arguments[2], arguments[3], arguments[4], strtoll(arguments[5], NULL, 10), tries);
  }
  mbedtls_ssl_config_free(&tls_config);
  mbedtls_x509_crt_free(&authority);
  mbedtls_ctr_drbg_free(&drbg);
  mbedtls_entropy_free(&entropy);
  return status;
}
