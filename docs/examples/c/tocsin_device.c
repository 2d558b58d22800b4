/* See tocsin_device.h. This file signs; tocsin_answer.c judges answers. */
#include "tocsin_device.h"

#include <string.h>

#include <mbedtls/ecdsa.h>
#include <mbedtls/md.h>
#include <mbedtls/platform_util.h>

#define SCALAR_BYTES 32
#define SIGNATURE_BYTES 64
#define POINT_BYTES 65
#define HEADER_ROOM (sizeof "{\"alg\":\"ES256\",\"kid\":\"\"}" + TOCSIN_NAME_MAX)
#define CHALLENGE "tocsin-challenge:"
#define CHALLENGE_ROOM (sizeof CHALLENGE + TOCSIN_NAME_MAX + 1 + TOCSIN_NAME_MAX)
#define NONCE_LEAST 22
#define NUMBER_ROOM 24       /* a sign, 19 digits, a point, a zero in front of it, the end */
#define DECIMALS_MAX 18
#define TIME_DIGITS 13
#define TIME_LEAST 1000000000000 /* the first with 13 digits: September 2001 */
#define TIME_MOST 9999999999999

/* ---- Names and numbers ------------------------------------------------------------------------------------------- */

static bool is_letter(char c, bool full_stop) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
         (full_stop && c == '.');
}

/* `least` to 64 characters of the alphabet of ids, or of nonces (without the full stop). */
static bool is_name(const char *text, size_t least, bool full_stop) {
  size_t length = 0;
  while (text[length] != '\0') {
    if (length == TOCSIN_NAME_MAX || !is_letter(text[length], full_stop)) return false;
    length += 1;
  }
  return length >= least;
}

/* Writes digits / 10^decimals without zeros at its end; answers its length. `decimals` is at most DECIMALS_MAX. */
static size_t write_decimal(char out[NUMBER_ROOM], int64_t digits, unsigned decimals) {
  uint64_t rest = digits < 0 ? 0 - (uint64_t)digits : (uint64_t)digits;
  char reversed[NUMBER_ROOM];
  size_t count = 0, length = 0;
  while (decimals > 0 && rest % 10 == 0) {
    rest /= 10;
    decimals -= 1;
    if (rest == 0) decimals = 0;
  }
  do {
    reversed[count++] = (char)('0' + rest % 10);
    rest /= 10;
    if (count == decimals) reversed[count++] = '.';
  } while (rest > 0 || count < (decimals == 0 ? 1 : (size_t)decimals + 2));
  if (digits < 0) out[length++] = '-';
  while (count > 0) out[length++] = reversed[--count];
  out[length] = '\0';
  return length;
}

static const char BASE64URL[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static size_t encoded_length(size_t bytes) { return bytes / 3 * 4 + (bytes % 3 == 0 ? 0 : bytes % 3 + 1); }

/* base64url without padding (RFC 4648 section 5). Writes encoded_length(size) characters, no end of string. */
static void encode(char *out, const unsigned char *bytes, size_t size) {
  for (size_t i = 0; i < size; i += 3) {
    size_t left = size - i;
    uint32_t group = (uint32_t)bytes[i] << 16;
    if (left > 1) group |= (uint32_t)bytes[i + 1] << 8;
    if (left > 2) group |= bytes[i + 2];
    *out++ = BASE64URL[group >> 18];
    *out++ = BASE64URL[group >> 12 & 63];
    if (left > 1) *out++ = BASE64URL[group >> 6 & 63];
    if (left > 2) *out++ = BASE64URL[group & 63];
  }
}

static void write_hex(char *out, const unsigned char *bytes, size_t size) {
  for (size_t i = 0; i < size; i += 1) {
    *out++ = "0123456789abcdef"[bytes[i] >> 4];
    *out++ = "0123456789abcdef"[bytes[i] & 15];
  }
  *out = '\0';
}

/* ---- Keys -------------------------------------------------------------------------------------------------------- */

int tocsin_device_init(tocsin_device *device, const char *id, const unsigned char scalar[32], tocsin_random random,
                       void *random_state) {
  memset(device, 0, sizeof *device);
  mbedtls_ecp_group_init(&device->group);
  mbedtls_mpi_init(&device->scalar);
  device->random = random;
  device->random_state = random_state;
  if (!is_name(id, 1, true)) return TOCSIN_ERR_NAME;
  memcpy(device->id, id, strlen(id) + 1);
  if (mbedtls_ecp_group_load(&device->group, MBEDTLS_ECP_DP_SECP256R1) != 0) return TOCSIN_ERR_CRYPTO;
  if (mbedtls_mpi_read_binary(&device->scalar, scalar, SCALAR_BYTES) != 0) return TOCSIN_ERR_CRYPTO;
  return mbedtls_ecp_check_privkey(&device->group, &device->scalar) == 0 ? TOCSIN_OK : TOCSIN_ERR_KEY;
}

void tocsin_device_free(tocsin_device *device) {
  mbedtls_ecp_group_free(&device->group);
  mbedtls_mpi_free(&device->scalar);
  mbedtls_platform_zeroize(device, sizeof *device);
}

int tocsin_make_key(unsigned char scalar[32], tocsin_random random, void *random_state) {
  mbedtls_ecp_group group;
  mbedtls_mpi number;
  mbedtls_ecp_group_init(&group);
  mbedtls_mpi_init(&number);
  int failed = mbedtls_ecp_group_load(&group, MBEDTLS_ECP_DP_SECP256R1) != 0 ||
               mbedtls_ecp_gen_privkey(&group, &number, random, random_state) != 0 ||
               mbedtls_mpi_write_binary(&number, scalar, SCALAR_BYTES) != 0;
  mbedtls_mpi_free(&number);
  mbedtls_ecp_group_free(&group);
  return failed ? TOCSIN_ERR_CRYPTO : TOCSIN_OK;
}

int tocsin_public_key(tocsin_device *device, char hex[TOCSIN_POINT_HEX]) {
  unsigned char bytes[POINT_BYTES];
  size_t written = 0;
  mbedtls_ecp_point point;
  mbedtls_ecp_point_init(&point);
  int failed = mbedtls_ecp_mul(&device->group, &point, &device->scalar, &device->group.G, device->random,
                               device->random_state) != 0 ||
               mbedtls_ecp_point_write_binary(&device->group, &point, MBEDTLS_ECP_PF_UNCOMPRESSED, &written, bytes,
                                              sizeof bytes) != 0;
  mbedtls_ecp_point_free(&point);
  if (failed || written != sizeof bytes) return TOCSIN_ERR_CRYPTO;
  write_hex(hex, bytes, sizeof bytes);
  return TOCSIN_OK;
}

/* ---- Signatures -------------------------------------------------------------------------------------------------- */

/* r||s (RFC 7518 section 3.4) over SHA-256 of the text, with the nonce of RFC 6979. */
static int sign(tocsin_device *device, const char *text, size_t length, unsigned char signature[SIGNATURE_BYTES]) {
  unsigned char digest[32];
  mbedtls_mpi r, s;
  const mbedtls_md_info_t *sha256 = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
  if (sha256 == NULL || mbedtls_md(sha256, (const unsigned char *)text, length, digest) != 0) return TOCSIN_ERR_CRYPTO;
  mbedtls_mpi_init(&r);
  mbedtls_mpi_init(&s);
  int failed = mbedtls_ecdsa_sign_det_ext(&device->group, &r, &s, &device->scalar, digest, sizeof digest,
                                          MBEDTLS_MD_SHA256, device->random, device->random_state) != 0 ||
               mbedtls_mpi_write_binary(&r, signature, SIGNATURE_BYTES / 2) != 0 ||
               mbedtls_mpi_write_binary(&s, signature + SIGNATURE_BYTES / 2, SIGNATURE_BYTES / 2) != 0;
  mbedtls_mpi_free(&s);
  mbedtls_mpi_free(&r);
  return failed ? TOCSIN_ERR_CRYPTO : TOCSIN_OK;
}

int tocsin_seal(tocsin_device *device, const tocsin_payload *payload, char *jws, size_t room) {
  char header[HEADER_ROOM];
  unsigned char signature[SIGNATURE_BYTES];
  if (payload->error != TOCSIN_OK) return payload->error;
  if (payload->readings == 0 || payload->in_reading) return TOCSIN_ERR_READINGS;
  strcpy(header, "{\"alg\":\"ES256\",\"kid\":\"");
  strcat(header, device->id);
  strcat(header, "\"}");
  size_t head = encoded_length(strlen(header)), body = encoded_length(payload->length);
  size_t signed_length = head + 1 + body;
  if (room < signed_length + 1 + TOCSIN_SIGNATURE_TEXT) return TOCSIN_ERR_SPACE;
  encode(jws, (const unsigned char *)header, strlen(header));
  jws[head] = '.';
  encode(jws + head + 1, (const unsigned char *)payload->text, payload->length);
  int result = sign(device, jws, signed_length, signature);
  if (result != TOCSIN_OK) return result;
  jws[signed_length] = '.';
  encode(jws + signed_length + 1, signature, sizeof signature);
  jws[signed_length + TOCSIN_SIGNATURE_TEXT] = '\0';
  return TOCSIN_OK;
}

int tocsin_sign_challenge(tocsin_device *device, const char *nonce, char signature[TOCSIN_SIGNATURE_TEXT]) {
  char text[CHALLENGE_ROOM];
  unsigned char bytes[SIGNATURE_BYTES];
  if (!is_name(nonce, NONCE_LEAST, false)) return TOCSIN_ERR_NAME;
  strcpy(text, CHALLENGE);
  strcat(text, device->id);
  strcat(text, ":");
  strcat(text, nonce);
  int result = sign(device, text, strlen(text), bytes);
  if (result != TOCSIN_OK) return result;
  encode(signature, bytes, sizeof bytes);
  signature[TOCSIN_SIGNATURE_TEXT - 1] = '\0';
  return TOCSIN_OK;
}

int tocsin_sign_original(tocsin_device *device, int64_t value, int64_t second, char signature[TOCSIN_SIGNATURE_HEX]) {
  char text[2 * NUMBER_ROOM];
  unsigned char bytes[SIGNATURE_BYTES];
  size_t length = write_decimal(text, value, 0);
  text[length++] = ':';
  length += write_decimal(text + length, second, 0);
  int result = sign(device, text, length, bytes);
  if (result == TOCSIN_OK) write_hex(signature, bytes, sizeof bytes);
  return result;
}

/* ---- Payloads ---------------------------------------------------------------------------------------------------- */

static void fail(tocsin_payload *payload, int error) {
  if (payload->error == TOCSIN_OK) payload->error = error;
}

static void append(tocsin_payload *payload, const char *text) {
  size_t size = strlen(text);
  if (payload->error != TOCSIN_OK) return;
  if (size >= payload->room - payload->length) {
    fail(payload, TOCSIN_ERR_SPACE);
    return;
  }
  memcpy(payload->text + payload->length, text, size + 1);
  payload->length += size;
}

static void append_number(tocsin_payload *payload, int64_t digits, unsigned decimals) {
  char number[NUMBER_ROOM];
  if (decimals > DECIMALS_MAX) {
    fail(payload, TOCSIN_ERR_NAME);
    return;
  }
  write_decimal(number, digits, decimals);
  append(payload, number);
}

void tocsin_payload_begin(tocsin_payload *payload, char *buffer, size_t room, const char *id, int64_t at,
                          const char *profile) {
  memset(payload, 0, sizeof *payload);
  payload->text = buffer;
  payload->room = room;
  if (room == 0) fail(payload, TOCSIN_ERR_SPACE);
  else buffer[0] = '\0';
  if (!is_name(id, 1, true) || !is_name(profile, 1, true)) fail(payload, TOCSIN_ERR_NAME);
  if (at < TIME_LEAST || at > TIME_MOST) fail(payload, TOCSIN_ERR_TIME);
  append(payload, "{\"id\":\"");
  append(payload, id);
  append(payload, "\",\"at\":");
  payload->at_position = payload->length;
  append_number(payload, at, 0);
  append(payload, ",\"profile\":\"");
  append(payload, profile);
  append(payload, "\",\"readings\":[");
}

int tocsin_payload_set_at(tocsin_payload *payload, int64_t at) {
  char number[NUMBER_ROOM];
  if (payload->error != TOCSIN_OK) return payload->error;
  if (at < TIME_LEAST || at > TIME_MOST) return TOCSIN_ERR_TIME;
  write_decimal(number, at, 0);
  memcpy(payload->text + payload->at_position, number, TIME_DIGITS);
  return TOCSIN_OK;
}

void tocsin_reading_begin(tocsin_payload *payload) {
  if (payload->in_reading || payload->readings == TOCSIN_READINGS_MAX) fail(payload, TOCSIN_ERR_READINGS);
  append(payload, payload->readings > 0 ? ",{" : "{");
  payload->in_reading = true;
  payload->first_member = true;
  payload->readings += 1;
}

void tocsin_reading_end(tocsin_payload *payload) {
  if (!payload->in_reading) fail(payload, TOCSIN_ERR_READINGS);
  append(payload, "}");
  payload->in_reading = false;
}

int tocsin_payload_end(tocsin_payload *payload) {
  if (payload->in_reading || payload->readings == 0) fail(payload, TOCSIN_ERR_READINGS);
  append(payload, "]}");
  return payload->error;
}

static void member(tocsin_payload *payload, const char *name) {
  if (!payload->in_reading) fail(payload, TOCSIN_ERR_READINGS);
  if (!is_name(name, 1, true)) fail(payload, TOCSIN_ERR_NAME);
  append(payload, payload->first_member ? "\"" : ",\"");
  append(payload, name);
  append(payload, "\":");
  payload->first_member = false;
}

void tocsin_integer(tocsin_payload *payload, const char *name, int64_t value) {
  tocsin_decimal(payload, name, value, 0);
}

void tocsin_decimal(tocsin_payload *payload, const char *name, int64_t digits, unsigned decimals) {
  member(payload, name);
  append_number(payload, digits, decimals);
}

void tocsin_decimals(tocsin_payload *payload, const char *name, const int32_t *digits, size_t count,
                     unsigned decimals) {
  member(payload, name);
  append(payload, "[");
  for (size_t i = 0; i < count; i += 1) {
    if (i > 0) append(payload, ",");
    append_number(payload, digits[i], decimals);
  }
  append(payload, "]");
}

void tocsin_boolean(tocsin_payload *payload, const char *name, bool value) {
  member(payload, name);
  append(payload, value ? "true" : "false");
}

void tocsin_null(tocsin_payload *payload, const char *name) {
  member(payload, name);
  append(payload, "null");
}

void tocsin_text(tocsin_payload *payload, const char *name, const char *value) {
  member(payload, name);
  if (!is_name(value, 1, true)) fail(payload, TOCSIN_ERR_NAME);
  append(payload, "\"");
  append(payload, value);
  append(payload, "\"");
}
