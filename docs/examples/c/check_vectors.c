/*
 * Checks the device core against the test vectors: ./check_vectors < packages/protocol/fixtures/vectors.tsv
 * Prints each difference and how much was checked; ends with 1 at a difference, or when a kind of vector was missing.
 */
#include "tocsin_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>

#define LINE_ROOM 131072
#define FIELDS 8

static const char *const KINDS[] = {"key", "envelope", "challenge", "no-challenge", "original", "answer", "clock"};
#define KIND_COUNT (sizeof KINDS / sizeof KINDS[0])

static mbedtls_ctr_drbg_context drbg;
static unsigned checks, wrong, built;
static unsigned seen[KIND_COUNT];
static char jws[LINE_ROOM], text[LINE_ROOM];

static void expect(bool right, const char *kind, const char *name) {
  checks += 1;
  if (right) return;
  wrong += 1;
  printf("wrong: %s: %s\n", kind, name);
}

/* ---- Devices ----------------------------------------------------------------------------------------------------- */

static bool read_hex(const char *hex, unsigned char *bytes, size_t size) {
  if (strlen(hex) != 2 * size) return false;
  for (size_t i = 0; i < size; i += 1) {
    char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'}, *end;
    bytes[i] = (unsigned char)strtoul(pair, &end, 16);
    if (*end != '\0') return false;
  }
  return true;
}

static int open_device(tocsin_device *device, const char *id, const char *scalar_hex) {
  unsigned char scalar[32] = {0};
  if (!read_hex(scalar_hex, scalar, sizeof scalar)) printf("not a scalar: %s\n", scalar_hex);
  return tocsin_device_init(device, id, scalar, mbedtls_ctr_drbg_random, &drbg);
}

/* ---- Payloads that this core builds by itself, as their vectors have them ---------------------------------------- */

#define NOW 1795000000000

static void wave(tocsin_payload *p) {
  static const int32_t X[] = {10, -20, 15}, Y[] = {0, 0, 0}, Z[] = {980, 981, 979};
  tocsin_reading_begin(p);
  tocsin_integer(p, "at", NOW - 40);
  tocsin_integer(p, "rate", 100);
  tocsin_decimals(p, "x", X, 3, 4);
  tocsin_decimals(p, "y", Y, 3, 4);
  tocsin_decimals(p, "z", Z, 3, 2);
  tocsin_reading_end(p);
}

static void trigger(tocsin_payload *p, int64_t at, int64_t digits, unsigned decimals) {
  tocsin_reading_begin(p);
  tocsin_integer(p, "at", at);
  tocsin_decimal(p, "value", digits, decimals);
  tocsin_reading_end(p);
}

static void frame(tocsin_payload *p) {
  tocsin_reading_begin(p);
  tocsin_integer(p, "at", NOW - 1000);
  tocsin_decimal(p, "cpu_percent", 125, 1);
  tocsin_integer(p, "mem_percent", 48);
  tocsin_decimal(p, "disk_percent", 7125, 2);
}

static void heartbeat(tocsin_payload *p) {
  static const int32_t A[] = {1, -2, 981}, G[] = {0, 1, 0};
  tocsin_reading_begin(p);
  tocsin_integer(p, "at", NOW - 5);
  tocsin_decimals(p, "accelerometer", A, 3, 2);
  tocsin_decimals(p, "gyroscope", G, 3, 3);
  tocsin_integer(p, "overlay", 0);
  tocsin_integer(p, "proximity", 5);
  tocsin_boolean(p, "touch_event", true);
  tocsin_decimal(p, "motion_delta", 25, 2);
  tocsin_boolean(p, "device_admin_enabled", true);
  tocsin_boolean(p, "accessibility_enabled", true);
  tocsin_text(p, "platform", "ios");
  tocsin_reading_end(p);
}

/* Builds the payload of the vector `name` into `room` bytes; false when this program does not know how. */
static bool build(const char *name, tocsin_payload *p, size_t room) {
  if (strcmp(name, "a trigger") == 0) {
    tocsin_payload_begin(p, text, room, "trigger-1", NOW, "seismic");
    trigger(p, NOW - 20, 15, 1);
  } else if (strcmp(name, "a packet and a trigger") == 0) {
    tocsin_payload_begin(p, text, room, "wave-2", NOW, "seismic");
    wave(p);
    trigger(p, NOW, -3, 0);
  } else if (strcmp(name, "500 readings") == 0) {
    tocsin_payload_begin(p, text, room, "many-1", NOW, "seismic");
    for (int i = 0; i < TOCSIN_READINGS_MAX; i += 1) trigger(p, NOW - 500 + i, i, 0);
  } else if (strcmp(name, "a frame with everything") == 0) {
    tocsin_payload_begin(p, text, room, "frame-2", NOW, "host");
    frame(p);
    tocsin_decimal(p, "gpu_percent", 35, 1);
    tocsin_decimal(p, "agent_cpu_percent", 1015, 1);
    tocsin_decimal(p, "agent_mem_mb", 842, 1);
    tocsin_reading_end(p);
  } else if (strcmp(name, "a frame with null") == 0) {
    tocsin_payload_begin(p, text, room, "frame-3", NOW, "host");
    frame(p);
    tocsin_null(p, "gpu_percent");
    tocsin_reading_end(p);
  } else if (strcmp(name, "a heartbeat with everything") == 0) {
    tocsin_payload_begin(p, text, room, "beat-2", NOW, "mobile");
    heartbeat(p);
  } else {
    return false;
  }
  return true;
}

static void check_built(const char *name, const char *payload) {
  tocsin_payload p;
  if (!build(name, &p, sizeof text)) return;
  built += 1;
  expect(tocsin_payload_end(&p) == TOCSIN_OK && strcmp(text, payload) == 0, "built payload", name);
  size_t whole = p.length + 1, step = whole > 1000 ? 997 : 1;
  for (size_t room = 0; room < whole; room += step) {
    memset(text, '#', whole + 1);
    build(name, &p, room);
    expect(tocsin_payload_end(&p) == TOCSIN_ERR_SPACE && text[room] == '#', "a buffer too small", name);
  }
  build(name, &p, whole);
  expect(tocsin_payload_end(&p) == TOCSIN_OK, "a buffer just large enough", name);
}

static void check_bounds(void) {
  tocsin_payload p;
  tocsin_payload_begin(&p, text, sizeof text, "a b", NOW, "seismic");
  expect(tocsin_payload_end(&p) == TOCSIN_ERR_NAME, "bounds", "an id with a space");
  tocsin_payload_begin(&p, text, sizeof text, "a", 20, "seismic");
  expect(tocsin_payload_end(&p) == TOCSIN_ERR_TIME, "bounds", "a clock that was never set");
  tocsin_payload_begin(&p, text, sizeof text, "a", NOW, "seismic");
  expect(tocsin_payload_end(&p) == TOCSIN_ERR_READINGS, "bounds", "no readings");
  tocsin_payload_begin(&p, text, sizeof text, "a", NOW, "seismic");
  for (int i = 0; i <= TOCSIN_READINGS_MAX; i += 1) trigger(&p, NOW, i, 0);
  expect(tocsin_payload_end(&p) == TOCSIN_ERR_READINGS, "bounds", "501 readings");
  tocsin_payload_begin(&p, text, sizeof text, "a", NOW, "seismic");
  tocsin_reading_begin(&p);
  tocsin_decimal(&p, "a", INT64_MIN, 18);
  tocsin_decimal(&p, "b", INT64_MAX, 0);
  tocsin_decimal(&p, "c", -5, 3);
  tocsin_decimal(&p, "d", -1000, 3);
  tocsin_decimal(&p, "e", 0, 9);
  tocsin_reading_end(&p);
  expect(tocsin_payload_end(&p) == TOCSIN_OK &&
             strcmp(strchr(text, '['), "[{\"a\":-9.223372036854775808,\"b\":9223372036854775807,\"c\":-0.005,\"d\":-1,"
                                       "\"e\":0}]}") == 0,
         "bounds", "numbers");
  expect(tocsin_payload_set_at(&p, NOW + 1) == TOCSIN_OK && strncmp(text, "{\"id\":\"a\",\"at\":1795000000001,", 29) == 0,
         "bounds", "signing again");
  tocsin_device device;
  expect(open_device(&device, "a", "0000000000000000000000000000000000000000000000000000000000000000") ==
             TOCSIN_ERR_KEY,
         "bounds", "zero is no key");
  tocsin_device_free(&device);
  expect(tocsin_retry_after("99999999999999999999999999", "") == 3600000, "bounds", "a wait of ages is an hour");
  for (unsigned attempt = 0; attempt < 40; attempt += 1) {
    uint32_t most = attempt < 6 ? 1000u << attempt : 60000;
    expect(tocsin_backoff(attempt, 0) == most / 2 && tocsin_backoff(attempt, most / 2) == most &&
               tocsin_backoff(attempt, UINT32_MAX) <= most,
           "bounds", "back-off");
  }
}

/* ---- Lines of the file ------------------------------------------------------------------------------------------- */

static void check_key(char **field) {
  tocsin_device device;
  char hex[TOCSIN_POINT_HEX];
  expect(open_device(&device, "a", field[2]) == TOCSIN_OK && tocsin_public_key(&device, hex) == TOCSIN_OK &&
             strcmp(hex, field[3]) == 0,
         "key", field[1]);
  tocsin_device_free(&device);
}

static void check_envelope(char **field) {
  tocsin_device device;
  tocsin_payload p = {.text = field[4], .length = strlen(field[4]), .readings = 1};
  size_t exact = strlen(field[5]) + 1;
  expect(open_device(&device, field[2], field[3]) == TOCSIN_OK && tocsin_seal(&device, &p, jws, exact) == TOCSIN_OK &&
             strcmp(jws, field[5]) == 0,
         "envelope", field[1]);
  expect(tocsin_seal(&device, &p, jws, exact - 1) == TOCSIN_ERR_SPACE, "a buffer too small", field[1]);
  tocsin_device_free(&device);
  check_built(field[1], field[4]);
}

static void check_challenge(char **field) {
  tocsin_device device;
  char signature[TOCSIN_SIGNATURE_TEXT];
  expect(open_device(&device, field[2], field[3]) == TOCSIN_OK &&
             tocsin_sign_challenge(&device, field[4], signature) == TOCSIN_OK && strcmp(signature, field[6]) == 0,
         "challenge", field[1]);
  tocsin_device_free(&device);
}

static void check_no_challenge(char **field) {
  static const char ONE[] = "0000000000000000000000000000000000000000000000000000000000000001";
  tocsin_device device;
  char signature[TOCSIN_SIGNATURE_TEXT] = "";
  int result = open_device(&device, field[2], ONE);
  if (result == TOCSIN_OK) result = tocsin_sign_challenge(&device, field[3], signature);
  expect(result == TOCSIN_ERR_NAME && signature[0] == '\0', "no challenge", field[1]);
  tocsin_device_free(&device);
}

static void check_original(char **field) {
  tocsin_device device;
  char signature[TOCSIN_SIGNATURE_HEX];
  const char *second = strchr(field[3], ':') + 1;
  expect(open_device(&device, "m1", field[2]) == TOCSIN_OK &&
             tocsin_sign_original(&device, strtoll(field[3], NULL, 10), strtoll(second, NULL, 10), signature) ==
                 TOCSIN_OK &&
             strcmp(signature, field[4]) == 0,
         "original", field[1]);
  tocsin_device_free(&device);
}

static const char *or_nothing(const char *field) { return strcmp(field, "-") == 0 ? "" : field; }

static void check_answer(char **field) {
  static const char *const ACTIONS[] = {"delivered", "set-aside", "resign", "wait", "hold"};
  tocsin_action action = tocsin_decide(atoi(field[2]), or_nothing(field[3]));
  int64_t wait = tocsin_retry_after(or_nothing(field[4]), or_nothing(field[5]));
  int64_t wanted = strcmp(field[7], "-") == 0 ? -1 : strtoll(field[7], NULL, 10);
  expect(strcmp(ACTIONS[action], field[6]) == 0 && wait == wanted, "answer", field[1]);
  char body[256], code[TOCSIN_CODE_MAX + 1];
  int length = snprintf(body, sizeof body, "{\"detail\":\"a \\\"code\\\":\\\"b\\\"\",\"code\":\"%s\",\"status\":1}",
                        or_nothing(field[3]));
  tocsin_problem_code(body, (size_t)length, code);
  expect(strcmp(code, or_nothing(field[3])) == 0, "code of a problem", field[1]);
}

static void check_clock(char **field) {
  int64_t least, most, sent = strtoll(field[2], NULL, 10), received = strtoll(field[3], NULL, 10);
  bool found = tocsin_clock_bounds(sent, received, field[4], &least, &most);
  if (strcmp(field[5], "-") == 0) {
    expect(!found, "clock", field[1]);
    return;
  }
  expect(found && least == strtoll(field[5], NULL, 10) && most == strtoll(field[6], NULL, 10), "clock", field[1]);
  expect(found && tocsin_clock_settle(most, least, most) == most && tocsin_clock_settle(most + 1, least, most) <= most &&
             tocsin_clock_settle(most + 1, least, most) >= least,
         "next offset", field[1]);
}

static void (*const CHECKS[KIND_COUNT])(char **) = {check_key,      check_envelope, check_challenge, check_no_challenge,
                                                    check_original, check_answer,   check_clock};

static bool check_line(char *line) {
  char *field[FIELDS];
  for (int i = 0; i < FIELDS; i += 1) field[i] = "";
  for (int i = 0; i < FIELDS && line != NULL; i += 1) {
    field[i] = line;
    line = strchr(line, '\t');
    if (line != NULL) *line++ = '\0';
  }
  for (size_t kind = 0; kind < KIND_COUNT; kind += 1) {
    if (strcmp(field[0], KINDS[kind]) != 0) continue;
    seen[kind] += 1;
    CHECKS[kind](field);
    return true;
  }
  printf("unknown kind of vector: %s\n", field[0]);
  return false;
}

int main(void) {
  static char line[LINE_ROOM];
  mbedtls_entropy_context entropy;
  mbedtls_entropy_init(&entropy);
  mbedtls_ctr_drbg_init(&drbg);
  if (mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL, 0) != 0) return 1;
  bool known = true;
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    known = check_line(line) && known;
  }
  check_bounds();
  for (size_t kind = 0; kind < KIND_COUNT; kind += 1) {
    if (seen[kind] > 0) continue;
    known = false;
    printf("no vectors of the kind %s\n", KINDS[kind]);
  }
  if (built < 6) printf("only %u of 6 payloads were built\n", built);
  printf("%u checks, %u wrong\n", checks, wrong);
  mbedtls_ctr_drbg_free(&drbg);
  mbedtls_entropy_free(&entropy);
  return wrong == 0 && known && built >= 6 ? 0 : 1;
}
