/*
 * A Tocsin device in C99 on mbedTLS (2.28 or 3.x, public functions only), for microcontrollers: it builds and signs
 * envelopes and decides what an answer means. It opens no sockets, reads no clock, keeps nothing and allocates nothing;
 * every buffer is the caller's and every write is bounded. (mbedTLS itself allocates while it signs.)
 *
 * Functions answer TOCSIN_OK or one of the errors below. A buffer that is too small is TOCSIN_ERR_SPACE; nothing is ever
 * written past its end. Times are Unix milliseconds.
 *
 * Checked against packages/protocol/fixtures/vectors.tsv by check_vectors.c.
 */
#ifndef TOCSIN_DEVICE_H
#define TOCSIN_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mbedtls/bignum.h>
#include <mbedtls/ecp.h>

#define TOCSIN_NAME_MAX 64        /* characters of a device id or an envelope id */
#define TOCSIN_READINGS_MAX 500   /* readings of an envelope */
#define TOCSIN_SIGNATURE_TEXT 87  /* base64url of 64 bytes, and the end of the string */
#define TOCSIN_SIGNATURE_HEX 129  /* hex of 64 bytes, and the end of the string */
#define TOCSIN_POINT_HEX 131      /* hex of 04, x, y, and the end of the string */
#define TOCSIN_CODE_MAX 40        /* characters of the code of a problem */

enum tocsin_result {
  TOCSIN_OK = 0,
  TOCSIN_ERR_NAME = -1,     /* an id, a nonce or a text is not of the known alphabet, or too long */
  TOCSIN_ERR_SPACE = -2,    /* the buffer is too small */
  TOCSIN_ERR_TIME = -3,     /* the time lies before September 2001 or after 2286: the clock was never set */
  TOCSIN_ERR_READINGS = -4, /* no reading, more than 500, or begin and end do not match */
  TOCSIN_ERR_KEY = -5,      /* the private key is not a number of the curve */
  TOCSIN_ERR_CRYPTO = -6    /* mbedTLS could not: no memory, no random */
};

/* Random bytes, as mbedTLS wants them (mbedtls_ctr_drbg_random): 0 when `size` bytes are at `output`. */
typedef int (*tocsin_random)(void *state, unsigned char *output, size_t size);

/* A device with its key. `random` blinds the multiplication against listeners at the power line; the signature itself
 * is deterministic (RFC 6979), so a weak source of random cannot give the key away. */
typedef struct {
  char id[TOCSIN_NAME_MAX + 1];
  mbedtls_ecp_group group;
  mbedtls_mpi scalar;
  tocsin_random random;
  void *random_state;
} tocsin_device;

/* `scalar`: the private key, 32 bytes, big-endian. Free it with tocsin_device_free, also after an error. */
int tocsin_device_init(tocsin_device *device, const char *id, const unsigned char scalar[32], tocsin_random random,
                       void *random_state);
void tocsin_device_free(tocsin_device *device);

/* A new private key; store it where nobody reads it. Of the random's quality depends everything. */
int tocsin_make_key(unsigned char scalar[32], tocsin_random random, void *random_state);

/* The public key as hex of the uncompressed point, as `publicKey` of POST /v1/devices. */
int tocsin_public_key(tocsin_device *device, char hex[TOCSIN_POINT_HEX]);

/*
 * The payload of an envelope, written piece by piece. The first error stays; later calls change nothing, and
 * tocsin_payload_end answers it. Numbers are decimal fractions, `digits` times ten to the power of minus `decimals`:
 * 1234 with 3 decimals is 1.234. So nothing here needs floating point, and NaN cannot happen.
 */
typedef struct {
  char *text;
  size_t room;
  size_t length; /* without the end of the string, which is always there */
  size_t at_position;
  unsigned readings;
  bool in_reading;
  bool first_member;
  int error;
} tocsin_payload;

/* `id` is unique for the device (for a week at least) and stays the same when the envelope is sent again. `profile` is
 * seismic, host or mobile. */
void tocsin_payload_begin(tocsin_payload *payload, char *buffer, size_t room, const char *id, int64_t at,
                          const char *profile);
void tocsin_reading_begin(tocsin_payload *payload);
void tocsin_integer(tocsin_payload *payload, const char *name, int64_t value);
void tocsin_decimal(tocsin_payload *payload, const char *name, int64_t digits, unsigned decimals);
void tocsin_decimals(tocsin_payload *payload, const char *name, const int32_t *digits, size_t count,
                     unsigned decimals);
void tocsin_boolean(tocsin_payload *payload, const char *name, bool value);
void tocsin_null(tocsin_payload *payload, const char *name);
/* Text of the alphabet of ids only: nothing that would need an escape. */
void tocsin_text(tocsin_payload *payload, const char *name, const char *value);
void tocsin_reading_end(tocsin_payload *payload);
int tocsin_payload_end(tocsin_payload *payload);

/* Changes the time of signing of a finished payload in place, to sign it again later. */
int tocsin_payload_set_at(tocsin_payload *payload, int64_t at);

/* The body for POST /v1/readings (application/jose): a compact JWS. `room` has to hold about 4/3 of the payload plus 210
 * bytes. */
int tocsin_seal(tocsin_device *device, const tocsin_payload *payload, char *jws, size_t room);

/* The signature over "tocsin-challenge:<id>:<nonce>", for POST /v1/auth/device. Only this form is ever signed: a nonce
 * of another alphabet or length is TOCSIN_ERR_NAME, whoever sent it. */
int tocsin_sign_challenge(tocsin_device *device, const char *nonce, char signature[TOCSIN_SIGNATURE_TEXT]);

/* The signature over "<value>:<second>" in hex, for POST /misurations/ of the original client. */
int tocsin_sign_original(tocsin_device *device, int64_t value, int64_t second, char signature[TOCSIN_SIGNATURE_HEX]);

/* What to do with the envelope after an answer. */
typedef enum {
  TOCSIN_DELIVERED, /* it is durable: forget it */
  TOCSIN_SET_ASIDE, /* it will never be taken as it is: go on with the next */
  TOCSIN_RESIGN,    /* set the clock by Date, sign again with the same id and a new time, send at once */
  TOCSIN_WAIT,      /* send again after Retry-After or tocsin_backoff */
  TOCSIN_HOLD       /* keep it and try again rarely: a person has to do something */
} tocsin_action;

/* `status` 0: there was no answer. `code`: that of the problem document, or "". */
tocsin_action tocsin_decide(int status, const char *code);

/* Finds the code of a problem document; "" when there is none. */
void tocsin_problem_code(const char *body, size_t length, char code[TOCSIN_CODE_MAX + 1]);

/* The wait that a Retry-After header asks for, ms, an hour at most; -1 when it says nothing. `date`: the header Date of
 * the same answer, or "". */
int64_t tocsin_retry_after(const char *header, const char *date);

/* Milliseconds to wait before attempt number `attempt` (0, 1, …): doubles from 1 s to 60 s, by chance half to all of
 * it, so that a thousand devices do not come back in one moment. */
uint32_t tocsin_backoff(unsigned attempt, uint32_t random);

/* A date of HTTP in its fixed form, "Wed, 18 Nov 2026 11:06:40 GMT"; false when it is not one. */
bool tocsin_http_date(const char *text, int64_t *time);

/* What an exchange says of the server's clock minus ours: we sent and received at these times by our clock. False when
 * it says nothing. */
bool tocsin_clock_bounds(int64_t sent, int64_t received, const char *date, int64_t *least, int64_t *most);

/* The next offset: ours where it lies within the bounds, else their middle. */
int64_t tocsin_clock_settle(int64_t offset, int64_t least, int64_t most);

#endif
