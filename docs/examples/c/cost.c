/*
 * What one signature takes on this machine: the heap that mbedTLS asks for at most, and the stack from our function down,
 * mbedTLS included. Linux with glibc; linked with -Wl,--wrap=calloc,--wrap=free (make cost).
 */
#define _GNU_SOURCE
#include "tocsin_device.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>

#define STACK (256 * 1024)
#define PAINT 0xa5

void *__real_calloc(size_t count, size_t size);
void __real_free(void *block);
void *__wrap_calloc(size_t count, size_t size);
void __wrap_free(void *block);

static size_t held, most;
static mbedtls_ctr_drbg_context drbg;
static tocsin_device device;
static tocsin_payload payload;
static char text[256], jws[1024];

void *__wrap_calloc(size_t count, size_t size) {
  void *block = __real_calloc(count, size);
  held += block == NULL ? 0 : malloc_usable_size(block);
  if (held > most) most = held;
  return block;
}

void __wrap_free(void *block) {
  held -= block == NULL ? 0 : malloc_usable_size(block);
  __real_free(block);
}

static void *nothing(void *ignored) { return ignored; }

static void *seal(void *ignored) {
  if (tocsin_seal(&device, &payload, jws, sizeof jws) != TOCSIN_OK) exit(1);
  return ignored;
}

/* Bytes of a painted stack that a thread wrote to. */
static size_t stack_of(void *(*work)(void *)) {
  static unsigned char stack[STACK] __attribute__((aligned(4096)));
  pthread_attr_t attributes;
  pthread_t thread;
  size_t clean = 0;
  memset(stack, PAINT, STACK);
  pthread_attr_init(&attributes);
  if (pthread_attr_setstack(&attributes, stack, STACK) != 0 || pthread_create(&thread, &attributes, work, NULL) != 0)
    exit(1);
  pthread_join(thread, NULL);
  while (clean < STACK && stack[clean] == PAINT) clean += 1;
  return STACK - clean;
}

int main(void) {
  unsigned char scalar[32];
  mbedtls_entropy_context entropy;
  mbedtls_entropy_init(&entropy);
  mbedtls_ctr_drbg_init(&drbg);
  if (mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL, 0) != 0 ||
      tocsin_make_key(scalar, mbedtls_ctr_drbg_random, &drbg) != TOCSIN_OK ||
      tocsin_device_init(&device, "sensor-1", scalar, mbedtls_ctr_drbg_random, &drbg) != TOCSIN_OK)
    return 1;
  tocsin_payload_begin(&payload, text, sizeof text, "e-1", 1795000000000, "seismic");
  tocsin_reading_begin(&payload);
  tocsin_integer(&payload, "at", 1795000000000);
  tocsin_decimal(&payload, "value", 15, 1);
  tocsin_reading_end(&payload);
  if (tocsin_payload_end(&payload) != TOCSIN_OK) return 1;
  seal(NULL);
  size_t kept = held, thread = stack_of(nothing);
  most = held;
  size_t stack = stack_of(seal) - thread;
  printf("heap at most %zu bytes, of which the device holds %zu; stack %zu bytes; payload %zu, JWS %zu bytes\n", most,
         kept, stack, payload.length, strlen(jws));
  tocsin_device_free(&device);
  mbedtls_ctr_drbg_free(&drbg);
  mbedtls_entropy_free(&entropy);
  return 0;
}
