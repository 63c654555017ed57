#include "config.h"

#include <stdbool.h>
#include <string.h>

// The agent writes the JSON, so it is valid; what this reader does not know, it refuses.
struct reader {
  const char *at;
  const char *end;
};

static bool take(struct reader *from, char wanted) {
  while (from->at < from->end && strchr(" \t\r\n", *from->at) != NULL) from->at++;
  if (from->at == from->end || *from->at != wanted) return false;
  from->at++;
  return true;
}

static bool take_text(struct reader *from, char *text, size_t *length) {
  if (!take(from, '"')) return false;
  *length = 0;
  while (from->at < from->end && *from->at != '"') {
    char letter = *from->at++;
    if (letter == '\\') {
      if (from->at == from->end || strchr("\"\\/", *from->at) == NULL) return false;
      letter = *from->at++;
    }
    if (*length == TEXT_MAX) return false;
    text[(*length)++] = letter;
  }
  return take(from, '"');
}

static bool take_number(struct reader *from, uint64_t *number) {
  while (from->at < from->end && *from->at == ' ') from->at++;
  const char *begin = from->at;
  *number = 0;
  while (from->at < from->end && *from->at >= '0' && *from->at <= '9' && from->at - begin < 9) {
    *number = *number * 10 + (uint64_t)(*from->at++ - '0');
  }
  return from->at > begin;
}

static bool is(const char *name, size_t length, const char *wanted) {
  return length == strlen(wanted) && memcmp(name, wanted, length) == 0;
}

const char *read_config(struct config *config, const char *json, size_t length) {
  struct reader reader = {json, json + length};
  bool has_key = false, has_value = false;
  memset(config, 0, sizeof *config);
  if (!take(&reader, '{')) return "it is not a table";
  while (!take(&reader, '}')) {
    char name[TEXT_MAX];
    size_t name_length;
    if (!take_text(&reader, name, &name_length) || !take(&reader, ':')) return "it is not a table of plain names";
    if (is(name, name_length, "key")) {
      if (!take_text(&reader, config->key, &config->key_length)) return "`key` must be a text of at most 1024 plain letters";
      has_key = config->key_length > 0;
    } else if (is(name, name_length, "value")) {
      if (!take_text(&reader, config->value, &config->value_length)) {
        return "`value` must be a text of at most 1024 plain letters";
      }
      has_value = true;
    } else if (is(name, name_length, "drop_below")) {
      if (!take_number(&reader, &config->drop_below) || config->drop_below > 24) {
        return "`drop_below` must be a severity number, 1 to 24";
      }
    } else {
      return "there is an unknown field; `key`, `value` and `drop_below` are known";
    }
    take(&reader, ',');
  }
  if (!has_key) return "`key` is missing";
  if (!has_value) return "`value` is missing";
  return NULL;
}
