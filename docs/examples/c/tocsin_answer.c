/* See tocsin_device.h. What an answer means, when to come back, what it says of the time. No mbedTLS in here. */
#include "tocsin_device.h"

#include <string.h>

#define LONGEST_WAIT_MS 3600000
#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MOST_MS 60000
#define DATE_LENGTH 29
#define DAY_SECONDS 86400

/* ---- What to do -------------------------------------------------------------------------------------------------- */

tocsin_action tocsin_decide(int status, const char *code) {
  if (status == 202) return TOCSIN_DELIVERED;
  /* Without a code it is not our server's word, but that of a proxy or a portal, or silence: nothing is dropped. */
  if (code[0] == '\0' || status < 400 || status == 408 || status == 429 || status >= 500) return TOCSIN_WAIT;
  switch (status) {
    case 409:
      if (strcmp(code, "replay") == 0) return TOCSIN_DELIVERED;
      return strcmp(code, "id-conflict") == 0 ? TOCSIN_SET_ASIDE : TOCSIN_WAIT;
    case 403:
      return strcmp(code, "envelope-stale") == 0 || strcmp(code, "envelope-future") == 0 ? TOCSIN_RESIGN : TOCSIN_HOLD;
    case 400:
    case 413:
    case 415:
    case 422:
      return TOCSIN_SET_ASIDE;
    default:
      return TOCSIN_HOLD;
  }
}

void tocsin_problem_code(const char *body, size_t length, char code[TOCSIN_CODE_MAX + 1]) {
  static const char MEMBER[] = "\"code\":\"";
  const size_t lead = sizeof MEMBER - 1;
  code[0] = '\0';
  /* Inside of a JSON string the quotes would have backslashes, so this text is the member itself. */
  for (size_t i = 0; i + lead < length; i += 1) {
    if (memcmp(body + i, MEMBER, lead) != 0) continue;
    for (size_t j = 0; j <= TOCSIN_CODE_MAX && i + lead + j < length; j += 1) {
      char c = body[i + lead + j];
      if (c == '"') {
        memcpy(code, body + i + lead, j);
        code[j] = '\0';
        return;
      }
      if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-')) return;
    }
    return;
  }
}

/* ---- When -------------------------------------------------------------------------------------------------------- */

int64_t tocsin_retry_after(const char *header, const char *date) {
  int64_t then, now, wait = 0;
  if (header[0] == '\0') return -1;
  if (tocsin_http_date(header, &then)) {
    if (!tocsin_http_date(date, &now)) return -1;
    wait = then > now ? then - now : 0;
    return wait < LONGEST_WAIT_MS ? wait : LONGEST_WAIT_MS;
  }
  for (const char *c = header; *c != '\0'; c += 1) {
    if (*c < '0' || *c > '9') return -1;
    /* Once too long it stays so, and cannot overflow. */
    if (wait < LONGEST_WAIT_MS) wait = wait * 10 + (*c - '0') * 1000;
  }
  return wait < LONGEST_WAIT_MS ? wait : LONGEST_WAIT_MS;
}

uint32_t tocsin_backoff(unsigned attempt, uint32_t random) {
  uint32_t most = attempt < 6 ? (uint32_t)BACKOFF_FIRST_MS << attempt : BACKOFF_MOST_MS;
  return most / 2 + random % (most / 2 + 1);
}

/* ---- The time ---------------------------------------------------------------------------------------------------- */

static bool digits(const char *text, int count, int *value) {
  *value = 0;
  for (int i = 0; i < count; i += 1) {
    if (text[i] < '0' || text[i] > '9') return false;
    *value = *value * 10 + (text[i] - '0');
  }
  return true;
}

/* Days from 1970-01-01 to a day of the Gregorian calendar, from 1970 on. */
static int64_t days_to(int year, int month, int day) {
  static const int BEFORE[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
  int past = year - 1, leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  int64_t days = (int64_t)past * 365 + past / 4 - past / 100 + past / 400 - 719162;
  return days + BEFORE[month - 1] + (leap && month > 2 ? 1 : 0) + day - 1;
}

static int days_of(int year, int month) {
  return (int)(month == 12 ? 31 : days_to(year, month + 1, 1) - days_to(year, month, 1));
}

/* Name number 1, 2, … of a row of names of three letters; 0 when it is none. */
static int index_of(const char *names, const char *text) {
  for (int i = 0; names[3 * i] != '\0'; i += 1) {
    if (memcmp(names + 3 * i, text, 3) == 0) return i + 1;
  }
  return 0;
}

bool tocsin_http_date(const char *text, int64_t *time) {
  int year, day, hour, minute, second;
  if (strlen(text) != DATE_LENGTH || memcmp(text + 25, " GMT", 4) != 0) return false;
  if (text[3] != ',' || text[4] != ' ' || text[7] != ' ' || text[11] != ' ' || text[16] != ' ' || text[19] != ':' ||
      text[22] != ':')
    return false;
  int month = index_of("JanFebMarAprMayJunJulAugSepOctNovDec", text + 8);
  if (month == 0 || index_of("MonTueWedThuFriSatSun", text) == 0) return false;
  if (!digits(text + 5, 2, &day) || !digits(text + 12, 4, &year) || !digits(text + 17, 2, &hour) ||
      !digits(text + 20, 2, &minute) || !digits(text + 23, 2, &second))
    return false;
  if (year < 1970 || day < 1 || day > days_of(year, month) || hour > 23 || minute > 59 || second > 60) return false;
  *time = (days_to(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second) * 1000;
  return true;
}

bool tocsin_clock_bounds(int64_t sent, int64_t received, const char *date, int64_t *least, int64_t *most) {
  int64_t second;
  if (received < sent || !tocsin_http_date(date, &second)) return false;
  *least = second - received;
  *most = second + 999 - sent;
  return true;
}

int64_t tocsin_clock_settle(int64_t offset, int64_t least, int64_t most) {
  return offset >= least && offset <= most ? offset : least + (most - least) / 2;
}
