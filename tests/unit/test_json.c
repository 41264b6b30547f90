/* test_json.c: the fast checker says what the grammar says.
 *
 * Three checkers look at every text: the one of this build, the portable one (json.c once more, without SSE2) and a
 * slow one below, written straight from the grammar of RFC 8259. Each text lies in memory of exactly its size, so that
 * a sanitizer sees any read outside. Random documents come from a seed that is printed; EVBUS_SEED=<number> takes it
 * back. */
#include "json.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool portable_is_utf8(const void *text, size_t len_bytes);
bool portable_check(const void *text, size_t len_bytes, struct json_fault *out_fault);
bool portable_check_wrapped(const void *text, size_t len_bytes);
bool portable_member(const char *text, size_t len, const char *name, const char **out_value, size_t *out_len);
bool portable_members(const char *text, size_t len, const char *const *names, size_t n, struct json_slice *out);
ptrdiff_t portable_string_decode(const char *slice, size_t len, char *out, size_t cap);
#define json_check         portable_check
#define json_check_wrapped portable_check_wrapped
#define json_member        portable_member
#define json_members       portable_members
#define json_is_utf8       portable_is_utf8
#define json_string_decode portable_string_decode
#ifndef JSON_PORTABLE
#define JSON_PORTABLE
#endif
#include "json.c"
#undef json_check
#undef json_check_wrapped
#undef json_member
#undef json_members
#undef json_is_utf8
#undef json_string_decode

#define TEXT(literal) literal, sizeof(literal) - 1
#define N_ROWS(rows)  (sizeof(rows) / sizeof *(rows))

/* The slow checker: one function per rule of the grammar. Each eats what it recognises, or says false. */
struct slow {
    const unsigned char *text;
    size_t len, pos;
    int depth;
};

static int slow_peek(const struct slow *slow)
{
    return slow->pos < slow->len ? slow->text[slow->pos] : -1;
}

static bool slow_eat(struct slow *slow, int byte)
{
    if (slow_peek(slow) != byte)
        return false;
    slow->pos++;
    return true;
}

static void slow_blanks(struct slow *slow)
{
    while (slow_eat(slow, 0x20) || slow_eat(slow, 0x09) || slow_eat(slow, 0x0a) || slow_eat(slow, 0x0d))
        continue;
}

static bool slow_word(struct slow *slow, const char *word)
{
    for (; *word != '\0'; word++)
        if (!slow_eat(slow, *word))
            return false;
    return true;
}

static bool slow_digits(struct slow *slow)
{
    size_t first = slow->pos;
    while (slow_peek(slow) >= '0' && slow_peek(slow) <= '9')
        slow->pos++;
    return slow->pos > first;
}

static bool slow_number(struct slow *slow)
{
    slow_eat(slow, '-');
    if (!slow_eat(slow, '0') && !slow_digits(slow))
        return false;
    if (slow_eat(slow, '.') && !slow_digits(slow))
        return false;
    if (slow_eat(slow, 'e') || slow_eat(slow, 'E')) {
        if (!slow_eat(slow, '+'))
            slow_eat(slow, '-');
        return slow_digits(slow);
    }
    return true;
}

/* Decodes to a code point and then asks whether it may be written like that. */
static bool slow_utf8(struct slow *slow)
{
    static const uint32_t smallest[] = {0, 0x80, 0x800, 0x10000};
    int lead = slow_peek(slow), n_more = 0;
    uint32_t code;
    if ((lead & 0xe0) == 0xc0)
        n_more = 1;
    else if ((lead & 0xf0) == 0xe0)
        n_more = 2;
    else if ((lead & 0xf8) == 0xf0)
        n_more = 3;
    else
        return false;
    code = (uint32_t)lead & (0x3fu >> n_more);
    slow->pos++;
    for (int i = 0; i < n_more; i++) {
        int more = slow_peek(slow);
        if (more < 0 || (more & 0xc0) != 0x80)
            return false;
        code = code << 6 | ((uint32_t)more & 0x3f);
        slow->pos++;
    }
    return code >= smallest[n_more] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
}

static bool slow_string(struct slow *slow)
{
    if (!slow_eat(slow, '"'))
        return false;
    while (!slow_eat(slow, '"')) {
        int byte = slow_peek(slow);
        if (byte < 0x20) /* or the end */
            return false;
        if (byte >= 0x80) {
            if (!slow_utf8(slow))
                return false;
            continue;
        }
        slow->pos++;
        if (byte != '\\')
            continue;
        int letter = slow_peek(slow);
        slow->pos++;
        if (letter == 'u') {
            for (int i = 0; i < 4; i++, slow->pos++)
                if (slow_peek(slow) < 1 || strchr("0123456789abcdefABCDEF", slow_peek(slow)) == NULL)
                    return false;
        } else if (letter < 1 || strchr("\"\\/bfnrt", letter) == NULL) {
            return false;
        }
    }
    return true;
}

static bool slow_value(struct slow *slow);

static bool slow_members(struct slow *slow)
{
    slow_blanks(slow);
    if (slow_eat(slow, '}'))
        return true;
    do {
        slow_blanks(slow);
        if (!slow_string(slow))
            return false;
        slow_blanks(slow);
        if (!slow_eat(slow, ':') || !slow_value(slow))
            return false;
    } while (slow_eat(slow, ','));
    return slow_eat(slow, '}');
}

static bool slow_elements(struct slow *slow)
{
    slow_blanks(slow);
    if (slow_eat(slow, ']'))
        return true;
    do {
        if (!slow_value(slow))
            return false;
    } while (slow_eat(slow, ','));
    return slow_eat(slow, ']');
}

/* Blanks, a value, blanks. */
static bool slow_value(struct slow *slow)
{
    bool is_fine;
    slow_blanks(slow);
    int first = slow_peek(slow);
    if (first == '{' || first == '[') {
        slow->pos++;
        if (++slow->depth > 128)
            return false;
        is_fine = first == '{' ? slow_members(slow) : slow_elements(slow);
        slow->depth--;
    } else if (first == '"') {
        is_fine = slow_string(slow);
    } else if (first == 't') {
        is_fine = slow_word(slow, "true");
    } else if (first == 'f') {
        is_fine = slow_word(slow, "false");
    } else if (first == 'n') {
        is_fine = slow_word(slow, "null");
    } else {
        is_fine = slow_number(slow);
    }
    slow_blanks(slow);
    return is_fine;
}

static bool slow_check(const void *text, size_t len)
{
    struct slow slow = {.text = text, .len = len};
    return slow_value(&slow) && slow.pos == len;
}

/* What all three say of this text; they must agree. */
static bool is_json(const char *label, const void *text, size_t len)
{
    char *exact = malloc(len > 0 ? len : 1);
    memcpy(exact, text, len);
    struct json_fault fault = {.at = SIZE_MAX}, portable_fault = {.at = SIZE_MAX};
    bool is_fast = json_check(exact, len, &fault), is_portable = portable_check(exact, len, &portable_fault);
    bool is_slow = slow_check(exact, len);
    if (is_fast != is_slow || is_portable != is_slow)
        cr_assert_fail("%s: fast %d, portable %d, slow %d (%s at %zu of %zu): %.*s", label, is_fast, is_portable,
                       is_slow, fault.what, fault.at, len, (int)len, exact);
    if (fault.at != portable_fault.at || (fault.what == NULL) != is_fast || (fault.at > len) != is_fast)
        cr_assert_fail("%s: %s at %zu, portable: %s at %zu: %.*s", label, fault.what, fault.at, portable_fault.what,
                       portable_fault.at, (int)len, exact);
    if (fault.what != NULL && strcmp(fault.what, portable_fault.what) != 0)
        cr_assert_fail("%s: %s, portable: %s: %.*s", label, fault.what, portable_fault.what, (int)len, exact);
    free(exact);
    return is_fast;
}

struct row {
    const char *label, *text;
    size_t len;
};

static void expect_rows(const struct row *rows, size_t n_rows, bool is_accepted)
{
    for (size_t i = 0; i < n_rows; i++)
        cr_expect_eq(is_json(rows[i].label, rows[i].text, rows[i].len), is_accepted, "%s must be %s", rows[i].label,
                     is_accepted ? "accepted" : "refused");
}

Test(json, any_value_may_be_the_text)
{
    static const struct row rows[] = {
        {"null", TEXT("null")},
        {"true", TEXT("true")},
        {"false", TEXT("false")},
        {"a number", TEXT("19.90")},
        {"one digit", TEXT("7")},
        {"a string", TEXT("\"text\"")},
        {"an empty string", TEXT("\"\"")},
        {"an empty object", TEXT("{}")},
        {"an empty array", TEXT("[]")},
        {"blanks in an empty object", TEXT("{ \n}")},
        {"blanks in an empty array", TEXT("[\t\r]")},
        {"all kinds", TEXT("{\"a\":[1,\"b\",true,false,null,{\"c\":{}}],\"d\":[]}")},
        {"arrays only", TEXT("[[],[[]],[[],[]]]")},
        {"an empty name", TEXT("{\"\":0}")},
        {"the same name twice", TEXT("{\"a\":1,\"a\":2}")},
        {"the same name, escaped", TEXT("{\"a\":1,\"\\u0061\":2}")},
        {"blanks everywhere", TEXT(" \t\r\n{ \"a\" : [ 1 , 2 ] , \"b\" : \"c\" } \n\r\t ")},
    };
    expect_rows(rows, N_ROWS(rows), true);
}

Test(json, numbers_follow_the_grammar)
{
    static const struct row accepted[] = {
        {"zero", TEXT("0")},
        {"minus zero", TEXT("-0")},
        {"minus zero with all parts", TEXT("-0.0e-0")},
        {"digits", TEXT("1234567890")},
        {"many digits", TEXT("123456789012345678901234567890123456789012345678901234567890")},
        {"a fraction", TEXT("0.10")},
        {"a fraction of zeros", TEXT("1.000")},
        {"e", TEXT("1e2")},
        {"E+", TEXT("1E+2")},
        {"e-", TEXT("1e-2")},
        {"a zero exponent", TEXT("0e0")},
        {"leading zeros in the exponent", TEXT("1e007")},
        {"beyond any double", TEXT("-1.5E+999999")},
        {"in an array", TEXT("[0,-1,2.5,3e3]")},
    };
    static const struct row refused[] = {
        {"a minus", TEXT("-")},
        {"two minus", TEXT("--1")},
        {"a plus", TEXT("+1")},
        {"a plus alone", TEXT("+")},
        {"a leading zero", TEXT("01")},
        {"two zeros", TEXT("00")},
        {"minus and a leading zero", TEXT("-01")},
        {"zeros before a fraction", TEXT("00.5")},
        {"no digit behind the point", TEXT("1.")},
        {"no digit before the point", TEXT(".5")},
        {"minus before a point", TEXT("-.5")},
        {"a point alone", TEXT(".")},
        {"two points", TEXT("1.2.3")},
        {"an exponent behind a point", TEXT("1.e2")},
        {"an empty exponent", TEXT("1e")},
        {"a signed empty exponent", TEXT("1e+")},
        {"two signs", TEXT("1e+-2")},
        {"two exponents", TEXT("1e2e3")},
        {"a fraction in the exponent", TEXT("1e2.5")},
        {"an exponent alone", TEXT("e5")},
        {"hex", TEXT("0x1F")},
        {"octal", TEXT("0o7")},
        {"an underscore", TEXT("1_000")},
        {"a comma for a point", TEXT("1,5")},
        {"NaN", TEXT("NaN")},
        {"Infinity", TEXT("Infinity")},
        {"minus Infinity", TEXT("-Infinity")},
        {"a letter behind", TEXT("12a")},
        {"a letter behind, in an array", TEXT("[12a]")},
        {"a blank inside", TEXT("1 2")},
        {"a blank behind the minus", TEXT("- 1")},
        {"a unit", TEXT("1f")},
        {"a NUL behind", TEXT("1\0")},
        {"a NUL behind, in an array", TEXT("[1\0]")},
        {"a full-width digit", TEXT("\xef\xbc\x91")},
    };
    expect_rows(accepted, N_ROWS(accepted), true);
    expect_rows(refused, N_ROWS(refused), false);
}

Test(json, strings_follow_the_grammar)
{
    static const struct row accepted[] = {
        {"every escape", TEXT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"")},
        {"hex digits of both cases", TEXT("\"\\uabcd\\uABCD\\u09fF\"")},
        {"an escaped NUL", TEXT("\"\\u0000\"")},
        {"a surrogate pair", TEXT("\"\\ud83d\\ude00\"")},
        {"a lone high surrogate", TEXT("\"\\uD800\"")},
        {"a lone low surrogate", TEXT("\"\\udfff\"")},
        {"surrogates the wrong way round", TEXT("\"\\ude00\\ud83d\"")},
        {"an escaped BOM", TEXT("\"\\ufeff\"")},
        {"a raw BOM inside", TEXT("\"\xef\xbb\xbf\"")},
        {"DEL", TEXT("\"\x7f\"")},
        {"a blank, the first that may stand raw", TEXT("\" \"")},
        {"a slash and an apostrophe", TEXT("\"/'\"")},
        {"brackets", TEXT("\"[{]},:\"")},
        {"two backslashes before the quote", TEXT("\"\\\\\"")},
        {"line separators", TEXT("\"\xe2\x80\xa8\xe2\x80\xa9\"")},
        {"a non-character", TEXT("\"\xef\xbf\xbf\"")},
        {"UTF-8 of all lengths", TEXT("\"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z\"")},
        {"UTF-8 in a name", TEXT("{\"M\xc3\xbcnster\":1}")},
    };
    static const struct row refused[] = {
        {"no end", TEXT("\"abc")},
        {"a quote alone", TEXT("\"")},
        {"an escaped quote as the last", TEXT("\"abc\\\"")},
        {"an escape cut short", TEXT("\"\\")},
        {"three quotes", TEXT("\"\"\"")},
        {"single quotes", TEXT("'a'")},
        {"\\a", TEXT("\"\\a\"")},
        {"\\v", TEXT("\"\\v\"")},
        {"\\0", TEXT("\"\\0\"")},
        {"\\x", TEXT("\"\\x41\"")},
        {"\\'", TEXT("\"\\'\"")},
        {"\\U", TEXT("\"\\U0041\"")},
        {"\\N", TEXT("\"\\N\"")},
        {"a backslash and a newline", TEXT("\"\\\n\"")},
        {"a backslash and a NUL", TEXT("\"\\\0\"")},
        {"a backslash and UTF-8", TEXT("\"\\\xc3\xa9\"")},
        {"\\u without digits", TEXT("\"\\u\"")},
        {"\\u with three digits", TEXT("\"\\u004\"")},
        {"\\u with a bad first digit", TEXT("\"\\ug041\"")},
        {"\\u with a bad last digit", TEXT("\"\\u004g\"")},
        {"\\u with a sign", TEXT("\"\\u+041\"")},
        {"\\u with a blank", TEXT("\"\\u 041\"")},
        {"\\u with a byte that has a digit's low bits", TEXT("\"\\u004\x10\"")},
        {"\\u with a backquote", TEXT("\"\\u004`\"")},
        {"\\u with an at sign", TEXT("\"\\u004@\"")},
        {"\\u cut by the end", TEXT("\"\\u00")},
        {"a bad escape behind a surrogate", TEXT("\"\\ud83d\\x\"")},
        {"a raw newline", TEXT("\"a\nb\"")},
        {"a raw carriage return", TEXT("\"a\rb\"")},
        {"a raw tab", TEXT("\"a\tb\"")},
        {"a raw NUL", TEXT("\"a\0b\"")},
        {"a raw 0x1f", TEXT("\"a\x1f\"")},
        {"an unquoted name", TEXT("{a:1}")},
        {"a control character in a name", TEXT("{\"a\n\":1}")},
    };
    expect_rows(accepted, N_ROWS(accepted), true);
    expect_rows(refused, N_ROWS(refused), false);
    for (int byte = 0; byte < 0x20; byte++) {
        char text[] = {'"', (char)byte, '"'};
        cr_expect_not(is_json("a raw control character", text, sizeof text), "0x%02x", (unsigned)byte);
    }
}

Test(json, structures_follow_the_grammar)
{
    static const struct row refused[] = {
        {"nothing", TEXT("")},
        {"blanks only", TEXT(" \n")},
        {"a trailing comma in an array", TEXT("[1,]")},
        {"a trailing comma in an object", TEXT("{\"a\":1,}")},
        {"a leading comma", TEXT("[,1]")},
        {"a leading comma in an object", TEXT("{,\"a\":1}")},
        {"two commas", TEXT("[1,,2]")},
        {"a comma alone", TEXT("[,]")},
        {"no comma", TEXT("[1 2]")},
        {"no comma behind a string", TEXT("[\"a\" \"b\"]")},
        {"no comma between members", TEXT("{\"a\":1 \"b\":2}")},
        {"a colon in an array", TEXT("[\"a\":1]")},
        {"no colon", TEXT("{\"a\" 1}")},
        {"a comma for a colon", TEXT("{\"a\",1}")},
        {"two colons", TEXT("{\"a\"::1}")},
        {"no value", TEXT("{\"a\":}")},
        {"no value, then a comma", TEXT("{\"a\":,\"b\":1}")},
        {"a name only", TEXT("{\"a\"}")},
        {"a number as a name", TEXT("{1:1}")},
        {"null as a name", TEXT("{null:1}")},
        {"an array as a name", TEXT("{[]:1}")},
        {"an object in an object without a name", TEXT("{{}}")},
        {"an open array", TEXT("[1")},
        {"an open array behind a comma", TEXT("[1,")},
        {"an open object", TEXT("{\"a\":1")},
        {"an open object behind a comma", TEXT("{\"a\":1,")},
        {"[ alone", TEXT("[")},
        {"{ alone", TEXT("{")},
        {"] alone", TEXT("]")},
        {"} alone", TEXT("}")},
        {"[ closed by }", TEXT("[1}")},
        {"{ closed by ]", TEXT("{\"a\":1]")},
        {"an empty [}", TEXT("[}")},
        {"an empty {]", TEXT("{]")},
        {"crossed", TEXT("[{\"a\":1]}")},
        {"one ] too many", TEXT("[1]]")},
        {"two values", TEXT("{}{}")},
        {"two values on two lines", TEXT("{}\n{}")},
        {"a comma behind", TEXT("{},")},
        {"a NUL behind", TEXT("{}\0")},
        {"a NUL before", TEXT("\0{}")},
        {"a NUL inside", TEXT("{\0}")},
        {"a NUL alone", TEXT("\0")},
        {"a comment", TEXT("[1/* one */]")},
        {"a line comment", TEXT("[1] // one")},
        {"a hash comment", TEXT("# one\n[1]")},
        {"True", TEXT("True")},
        {"TRUE", TEXT("TRUE")},
        {"nul", TEXT("nul")},
        {"nulll", TEXT("nulll")},
        {"tru", TEXT("[tru]")},
        {"truth", TEXT("truth")},
        {"fals", TEXT("fals")},
        {"falsE", TEXT("falsE")},
        {"a full-width null", TEXT("n\xef\xbd\x95ll")},
        {"undefined", TEXT("undefined")},
        {"a word glued to a number", TEXT("[null1]")},
        {"a byte order mark", TEXT("\xef\xbb\xbf{}")},
        {"a byte order mark alone", TEXT("\xef\xbb\xbf")},
        {"half a byte order mark", TEXT("\xef\xbb")},
        {"a byte order mark behind", TEXT("{}\xef\xbb\xbf")},
        {"UTF-16", TEXT("{\0}\0")},
        {"UTF-16 with its mark", TEXT("\xff\xfe{\0}\0")},
        {"UTF-8 outside of strings", TEXT("[\xc3\xa9]")},
        {"invalid UTF-8 outside of strings", TEXT("[\xff]")},
        {"a form feed", TEXT("[\f1]")},
        {"a vertical tab", TEXT("[1\v]")},
        {"a no-break space", TEXT("[1,\xc2\xa0\x32]")},
        {"0xa0", TEXT("[\xa0\x31]")},
        {"an ideographic space", TEXT("\xe3\x80\x80[]")},
        {"a next line, U+0085", TEXT("[]\xc2\x85")},
        {"a backspace", TEXT("[1]\b")},
        {"DEL", TEXT("[1]\x7f")},
        {"an escape outside of strings", TEXT("[\\u0031]")},
    };
    expect_rows(refused, N_ROWS(refused), false);
}

Test(json, levels_up_to_128_are_accepted_and_129_refused)
{
    static const struct opening {
        const char *label, *open, *close, *inside;
    } rows[] = {
        {"arrays", "[", "]", ""},
        {"arrays with a number", "[", "]", "1"},
        {"second elements", "[0,", "]", "1"},
        {"objects", "{\"a\":", "}", "1"},
        {"objects, the last empty", "{\"a\":", "}", "[]"},
    };
    for (const struct opening *row = rows; row < rows + N_ROWS(rows); row++) {
        int extra = strcmp(row->inside, "[]") == 0; /* what is inside is a level of its own */
        for (int depth = 126; depth <= 131; depth++) {
            char text[2048] = "";
            for (int i = 0; i < depth; i++)
                strcat(text, row->open);
            strcat(text, row->inside);
            for (int i = 0; i < depth; i++)
                strcat(text, row->close);
            cr_expect_eq(is_json(row->label, text, strlen(text)), depth + extra <= 128, "%s: %d levels", row->label,
                         depth + extra);
        }
    }
    char *brackets = malloc(1000000);
    memset(brackets, '[', 1000000);
    struct json_fault fault = {0};
    cr_expect_not(json_check(brackets, 1000000, &fault));
    cr_expect_eq(fault.at, 128, "%zu", fault.at);
    free(brackets);
    char wide[5000] = "[1"; /* closed levels do not count */
    for (int i = 0; i < 500; i++)
        strcat(wide, ", [], {}");
    strcat(wide, "]");
    cr_expect(is_json("1000 brothers", wide, strlen(wide)));
}

Test(json, every_code_point_is_accepted_in_utf8_and_no_surrogate)
{
    for (uint32_t code = 0x80; code <= 0x110000; code++) {
        char text[6] = "\"";
        size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
        uint32_t bits = code;
        for (size_t i = len; i > 1; i--, bits >>= 6)
            text[i] = (char)(0x80 | (bits & 0x3f));
        text[1] = (char)((0xf00u >> len & 0xff) | bits);
        text[len + 1] = '"';
        bool is_expected = code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
        if (json_check(text, len + 2, NULL) != is_expected || portable_check(text, len + 2, NULL) != is_expected)
            cr_assert_fail("U+%04" PRIX32 " must be %s", code, is_expected ? "accepted" : "refused");
    }
}

Test(json, all_borders_of_utf8_are_kept)
{
    static const unsigned char borders[] = {0x00, 0x20, 0x22, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0,
                                            0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee,
                                            0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf8, 0xff};
    const size_t n = sizeof borders;
    for (size_t i = 0; i < n * n * n * n; i++) { /* four bytes in a string, and the same without the closing quote */
        char text[] = {'"',
                       (char)borders[i / n / n / n],
                       (char)borders[i / n / n % n],
                       (char)borders[i / n % n],
                       (char)borders[i % n],
                       '"'};
        is_json("four border bytes", text, i % 7 == 0 ? 5 : 6);
    }
}

Test(json, a_special_byte_is_found_at_any_place_of_a_string)
{
    static const unsigned char specials[] = {0x00, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x5b,
                                             0x5c, 0x5d, 0x7f, 0x80, 0xc3, 0xff};
    for (size_t len = 0; len <= 70; len++)
        for (size_t place = 1; place <= len; place++)
            for (size_t i = 0; i < sizeof specials; i++) {
                char text[72];
                memset(text, 'x', sizeof text);
                text[0] = text[len + 1] = '"';
                text[place] = (char)specials[i];
                bool is_accepted = is_json("a string with one special byte", text, len + 2);
                bool is_plain = specials[i] >= 0x20 && specials[i] < 0x80 && specials[i] != '"' && specials[i] != '\\';
                if (is_accepted != is_plain && specials[i] != '\\')
                    cr_assert_fail("0x%02x at %zu of %zu", specials[i], place, len);
            }
}

static const char sample[] =
    "{\"orderId\":\"10249\",\"company\":\"Toms Spezialit\xc3\xa4ten\",\"ship\":{\"city\":\"M\\u00fcnster\", "
    "\"flags\":[true,false,null]},\n\t\"freight\":-11.610e+00,\"lines\":[{},[],[[0.5]],"
    "{\"product\":\"\\\"Tofu\\\" \xe2\x82\xac \xf0\x9f\x98\x80\",\"n\":40}],\"total\":0}";

/* A key's check: texts shorter than a word, of a word and of some, with the byte at each place. */
Test(json, one_byte_that_is_no_utf8_is_found_at_any_place_of_a_text)
{
    cr_expect(json_is_utf8(NULL, 0));
    for (size_t len = 1; len <= 40; len++)
        for (size_t at = 0; at <= len; at++) {
            char *text = malloc(len); /* of its length, for the sanitizer */
            memset(text, 'a', len);
            if (at < len)
                text[at] = '\xff';
            cr_expect_eq(json_is_utf8(text, len), at == len, "byte %zu of %zu", at, len);
            cr_expect_eq(portable_is_utf8(text, len), at == len, "byte %zu of %zu", at, len);
            free(text);
        }
}

Test(json, every_prefix_of_a_document_is_refused)
{
    cr_assert(is_json("the whole", TEXT(sample)));
    for (size_t len = 0; len < sizeof sample - 1; len++)
        cr_expect_not(is_json("a prefix", sample, len), "%zu bytes", len);
}

Test(json, every_change_of_one_byte_is_judged_as_the_grammar_does)
{
    for (size_t at = 0; at < sizeof sample - 1; at++)
        for (int byte = 0; byte < 256; byte++) {
            char text[sizeof sample];
            memcpy(text, sample, sizeof sample);
            text[at] = (char)byte;
            is_json("one byte changed", text, sizeof sample - 1);
        }
}

Test(json, every_byte_left_out_or_doubled_is_judged_as_the_grammar_does)
{
    for (size_t at = 0; at < sizeof sample - 1; at++) {
        char text[sizeof sample + 1];
        memcpy(text, sample, at);
        memcpy(text + at, sample + at + 1, sizeof sample - 2 - at);
        is_json("one byte left out", text, sizeof sample - 2);
        memcpy(text, sample, at + 1);
        memcpy(text + at + 1, sample + at, sizeof sample - 1 - at);
        is_json("one byte doubled", text, sizeof sample);
    }
}

/* Random documents. */
struct maker {
    uint64_t seed; /* splitmix64 */
    char text[8192];
    size_t len;
};

static uint64_t draw(struct maker *maker, uint64_t below)
{
    uint64_t bits = maker->seed += UINT64_C(0x9e3779b97f4a7c15);
    bits = (bits ^ bits >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    bits = (bits ^ bits >> 27) * UINT64_C(0x94d049bb133111eb);
    return (bits ^ bits >> 31) % below;
}

static void put(struct maker *maker, const char *text)
{
    size_t len = strlen(text);
    cr_assert_leq(len, sizeof maker->text - maker->len);
    memcpy(maker->text + maker->len, text, len);
    maker->len += len;
}

static void put_blanks(struct maker *maker)
{
    static const char *const blanks[] = {" ", "\n", "\r\n", "\t", "    "};
    if (draw(maker, 4) == 0)
        put(maker, blanks[draw(maker, N_ROWS(blanks))]);
}

static void put_digits(struct maker *maker)
{
    static const char *const digits[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
    do
        put(maker, digits[draw(maker, 10)]);
    while (draw(maker, 3) > 0);
}

static void put_number(struct maker *maker)
{
    static const char *const exponents[] = {"e", "E", "e+", "E-"};
    put(maker, draw(maker, 3) == 0 ? "-" : "");
    if (draw(maker, 4) == 0) {
        put(maker, "0");
    } else {
        put(maker, "5");
        if (draw(maker, 2) == 0)
            put_digits(maker);
    }
    if (draw(maker, 3) == 0) {
        put(maker, ".");
        put_digits(maker);
    }
    if (draw(maker, 5) == 0) {
        put(maker, exponents[draw(maker, N_ROWS(exponents))]);
        put_digits(maker);
    }
}

static void put_string(struct maker *maker)
{
    static const char *const parts[] = {"a",
                                        "order",
                                        " ",
                                        "customer-0815",
                                        "\\n",
                                        "\\\"",
                                        "\\\\",
                                        "\\u00e9",
                                        "\\uD83D",
                                        "\\ude00",
                                        "\xc3\xa9",
                                        "\xe2\x82\xac",
                                        "\x7f",
                                        "/",
                                        "\xf0\x9f\x98\x80",
                                        "{[",
                                        "]}",
                                        "a rather long run of plain text"};
    put(maker, "\"");
    for (uint64_t n = draw(maker, 5); n > 0; n--)
        put(maker, parts[draw(maker, N_ROWS(parts))]);
    put(maker, "\"");
}

static void put_value(struct maker *maker, int depth)
{
    static const char *const words[] = {"true", "false", "null"};
    put_blanks(maker);
    uint64_t kind = draw(maker, depth < 5 && maker->len < 2000 ? 5 : 3);
    if (kind == 0) {
        put(maker, words[draw(maker, 3)]);
    } else if (kind == 1) {
        put_number(maker);
    } else if (kind == 2) {
        put_string(maker);
    } else {
        put(maker, kind == 3 ? "{" : "[");
        for (uint64_t left = draw(maker, 5); left > 0; left--) {
            if (kind == 3) {
                put_blanks(maker);
                put_string(maker);
                put_blanks(maker);
                put(maker, ":");
            }
            put_value(maker, depth + 1);
            put(maker, left > 1 ? "," : "");
        }
        put_blanks(maker);
        put(maker, kind == 3 ? "}" : "]");
    }
    put_blanks(maker);
}

/* One to three bytes changed, left out or put in; most of them bytes that mean something. */
static void mutate(struct maker *maker)
{
    static const char bytes[] = "\"\\{}[]:,0123456789.-+eEutrnfalse \n\x00\x1f\x7f\x80\xbf\xc3\xe2\xed\xf0\xff";
    for (uint64_t n = 1 + draw(maker, 3); n > 0 && maker->len > 0; n--) {
        size_t at = draw(maker, maker->len);
        char byte = bytes[draw(maker, sizeof bytes - 1)];
        uint64_t how = draw(maker, 3);
        if (how == 0) {
            maker->text[at] = byte;
        } else if (how == 1) {
            maker->len--;
            memmove(maker->text + at, maker->text + at + 1, maker->len - at);
        } else if (maker->len < sizeof maker->text) {
            memmove(maker->text + at + 1, maker->text + at, maker->len - at);
            maker->len++;
            maker->text[at] = byte;
        }
    }
}

Test(json, random_documents_are_accepted_and_their_mutations_judged_as_the_grammar_does)
{
    const char *given = getenv("EVBUS_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
    fprintf(stderr, "test_json: EVBUS_SEED=%" PRIu64 "\n", seed);
    struct maker *maker = malloc(sizeof *maker), *mutant = malloc(sizeof *mutant);
    maker->seed = seed;
    for (int i = 0; i < 3000; i++) {
        maker->len = 0;
        put_value(maker, 0);
        cr_assert(is_json("a random document", maker->text, maker->len), "EVBUS_SEED=%" PRIu64 ", document %d: %.*s",
                  seed, i, (int)maker->len, maker->text);
        for (int k = 0; k < 30; k++) {
            *mutant = *maker;
            mutate(mutant);
            maker->seed = mutant->seed;
            is_json("a random mutation", mutant->text, mutant->len);
        }
    }
    free(maker);
    free(mutant);
}

Test(json, a_fault_says_where_and_what)
{
    static const struct {
        const char *label, *text;
        size_t len, at;
        const char *what;
    } rows[] = {
        {"nothing", TEXT(""), 0, "the end of the text where a value must begin"},
        {"a newline in a string", TEXT("{\"a\":\"b\nc\"}"), 7, "a raw control character in a string"},
        {"a NUL in a string", TEXT("\"a\0\""), 2, "a raw control character in a string"},
        {"an open string", TEXT("[1,\"abc"), 3, "a string without its closing quote"},
        {"an escape", TEXT("[\"ab\\x\"]"), 4, "an escape that JSON does not have"},
        {"hex", TEXT("\"\\u12g4\""), 1, "a \\u without four hex digits"},
        {"overlong", TEXT("\"ab\xc0\xaf\""), 3, "invalid UTF-8 in a string"},
        {"the second sequence", TEXT("\"\xc3\xa9\xed\xa0\x80\""), 3, "invalid UTF-8 in a string"},
        {"a mark", TEXT("\xef\xbb\xbf{}"), 0, "a byte order mark"},
        {"a mark alone", TEXT("\xef\xbb\xbf"), 0, "a byte order mark"},
        {"a leading zero", TEXT("[-012]"), 2, "a number with a leading zero"},
        {"a point", TEXT("[1.]"), 3, "no digit where a number needs one"},
        {"a word", TEXT("[nul]"), 1, "a word that is not true, false or null"},
        {"a trailing comma", TEXT("[1,]"), 3, "no value where one must begin"},
        {"a name", TEXT("{\"a\":1,}"), 7, "no name in quotes where a member must begin"},
        {"a colon", TEXT("{\"a\" 1}"), 5, "no colon behind a member's name"},
        {"a comma in an object", TEXT("{\"a\":1 \"b\":2}"), 7, "no comma or } behind a member"},
        {"a comma in an array", TEXT("[1 2]"), 3, "no comma or ] behind a value"},
        {"an open array", TEXT("[[1]"), 4, "the end of the text inside an array or object"},
        {"garbage", TEXT("{} x"), 3, "something behind the value"},
    };
    for (size_t i = 0; i < N_ROWS(rows); i++) {
        struct json_fault fault = {0};
        cr_expect_not(json_check(rows[i].text, rows[i].len, &fault), "%s", rows[i].label);
        cr_expect_eq(fault.at, rows[i].at, "%s: at %zu, not %zu", rows[i].label, fault.at, rows[i].at);
        cr_expect_str_eq(fault.what, rows[i].what, "%s: %s", rows[i].label, fault.what);
        cr_expect_not(json_check(rows[i].text, rows[i].len, NULL), "%s, without a place for the fault", rows[i].label);
    }
}

Test(json, success_leaves_the_fault_untouched)
{
    struct json_fault fault = {.at = 77, .what = "mine"};
    cr_expect(json_check(TEXT("{}"), &fault));
    cr_expect_eq(fault.at, 77);
    cr_expect_str_eq(fault.what, "mine");
    cr_expect_not(json_check(NULL, 0, NULL), "no text at all is an empty text");
}

Test(json, a_member_is_found_by_its_decoded_name_and_given_as_it_stands)
{
    static const struct {
        const char *label, *text;
        size_t len;
        const char *name, *value; /* NULL: there is none */
    } rows[] = {
        {"the first", TEXT("{\"a\":1,\"b\":2}"), "a", "1"},
        {"the last", TEXT("{\"a\":1,\"b\":2}"), "b", "2"},
        {"no such", TEXT("{\"a\":1,\"b\":2}"), "c", NULL},
        {"an empty object", TEXT("{}"), "a", NULL},
        {"an empty object with blanks", TEXT(" { } "), "a", NULL},
        {"an array", TEXT("[\"a\",1]"), "a", NULL},
        {"a string", TEXT("\"a\""), "a", NULL},
        {"a number", TEXT("1"), "a", NULL},
        {"nothing", TEXT(""), "a", NULL},
        {"with duplicates the last", TEXT("{\"a\":1,\"b\":2,\"a\":3}"), "a", "3"},
        {"an escaped duplicate is one too", TEXT("{\"a\":1,\"\\u0061\":2}"), "a", "2"},
        {"a member further inside is none", TEXT("{\"b\":{\"a\":1},\"c\":[{\"a\":2}]}"), "a", NULL},
        {"behind a nested one", TEXT("{\"b\":{\"a\":[1,{}]},\"a\":2}"), "a", "2"},
        {"a value is no name", TEXT("{\"b\":\"a\",\"c\":1}"), "a", NULL},
        {"a number as it stands", TEXT("{\"a\":-1.10E+02}"), "a", "-1.10E+02"},
        {"a string with its quotes", TEXT("{\"a\":\"b\\n\\\"\",\"c\":0}"), "a", "\"b\\n\\\"\""},
        {"an object with its blanks", TEXT("{\"a\":{ \"b\" : [ ] } ,\"c\":0}"), "a", "{ \"b\" : [ ] }"},
        {"null", TEXT("{\"a\":null}"), "a", "null"},
        {"blanks around", TEXT(" { \"a\" \n:\t true \r, \"b\":1}"), "a", "true"},
        {"a prefix of a name", TEXT("{\"abc\":1}"), "ab", NULL},
        {"longer than a name", TEXT("{\"ab\":1}"), "abc", NULL},
        {"an empty name", TEXT("{\"a\":1,\"\":2}"), "", "2"},
        {"no empty name", TEXT("{\"a\":1}"), "", NULL},
        {"a NUL does not end a name", TEXT("{\"a\\u0000b\":1}"), "a", NULL},
        {"a NUL is not the end", TEXT("{\"a\\u0000\":1}"), "a", NULL},
        {"simple escapes", TEXT("{\"\\\"\\\\\\/\\b\\f\\n\\r\\t\":1}"), "\"\\/\b\f\n\r\t", "1"},
        {"UTF-8", TEXT("{\"M\xc3\xbcnster\":1}"), "M\xc3\xbcnster", "1"},
        {"escaped UTF-8", TEXT("{\"M\\u00FCnster\":1}"), "M\xc3\xbcnster", "1"},
        {"a surrogate pair", TEXT("{\"\\ud83d\\ude00\":1}"), "\xf0\x9f\x98\x80", "1"},
        {"a lone surrogate is no name of ours", TEXT("{\"\\ud83d\":1}"), "\xed\xa0\xbd", NULL},
        {"a lone surrogate is not nothing", TEXT("{\"\\ud83d\":1}"), "", NULL},
        {"a lone surrogate between letters", TEXT("{\"a\\udc00b\":1}"), "ab", NULL},
        {"upper and lower case differ", TEXT("{\"A\":1}"), "a", NULL},
    };
    for (size_t i = 0; i < N_ROWS(rows); i++) {
        char *exact = malloc(rows[i].len > 0 ? rows[i].len : 1);
        memcpy(exact, rows[i].text, rows[i].len);
        const char *value = "untouched";
        size_t len = 9;
        bool is_found = json_member(exact, rows[i].len, rows[i].name, &value, &len);
        cr_expect_eq(is_found, rows[i].value != NULL, "%s: found %d", rows[i].label, is_found);
        const char *expected = rows[i].value != NULL ? rows[i].value : "untouched";
        cr_expect(len == strlen(expected) && memcmp(value, expected, len) == 0, "%s: %.*s, not %s", rows[i].label,
                  (int)len, value, expected);
        const char *portable_value = "untouched";
        size_t portable_len = 9;
        portable_member(exact, rows[i].len, rows[i].name, &portable_value, &portable_len);
        cr_expect(portable_len == len && (!is_found || portable_value == value), "%s: portable", rows[i].label);
        free(exact);
    }
}

Test(json, a_member_of_a_text_with_128_levels_is_found)
{
    char text[600] = "{\"a\":";
    for (int i = 0; i < 127; i++)
        strcat(text, "[");
    for (int i = 0; i < 127; i++)
        strcat(text, "]");
    strcat(text, ",\"b\":1}");
    const char *value = NULL;
    size_t len = 0;
    cr_assert(json_check(text, strlen(text), NULL));
    cr_expect(json_member(text, strlen(text), "b", &value, &len));
    cr_expect_eq(len, 1);
    cr_expect(json_member(text, strlen(text), "a", &value, &len));
    cr_expect_eq(len, 254);
}

Test(json, a_string_is_decoded_to_utf8_if_it_fits)
{
    static const struct {
        const char *label, *slice;
        size_t len;
        const char *decoded; /* NULL: -1 whatever the room */
        size_t decoded_len;
    } rows[] = {
        {"empty", TEXT("\"\""), TEXT("")},
        {"plain", TEXT("\"order-0815\""), TEXT("order-0815")},
        {"simple escapes", TEXT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), TEXT("\"\\/\b\f\n\r\t")},
        {"a NUL", TEXT("\"a\\u0000b\""), TEXT("a\0b")},
        {"the last of one byte", TEXT("\"\\u007f\""), TEXT("\x7f")},
        {"the first of two", TEXT("\"\\u0080\""), TEXT("\xc2\x80")},
        {"the last of two", TEXT("\"\\u07ff\""), TEXT("\xdf\xbf")},
        {"the first of three", TEXT("\"\\u0800\""), TEXT("\xe0\xa0\x80")},
        {"the last before the surrogates", TEXT("\"\\uD7FF\""), TEXT("\xed\x9f\xbf")},
        {"the first behind them", TEXT("\"\\uE000\""), TEXT("\xee\x80\x80")},
        {"the last of three", TEXT("\"\\uffff\""), TEXT("\xef\xbf\xbf")},
        {"the first pair", TEXT("\"\\ud800\\udc00\""), TEXT("\xf0\x90\x80\x80")},
        {"the last pair", TEXT("\"\\udbff\\udfff\""), TEXT("\xf4\x8f\xbf\xbf")},
        {"a pair in text", TEXT("\"a\\ud83d\\ude00b\""), TEXT("a\xf0\x9f\x98\x80\x62")},
        {"raw UTF-8", TEXT("\"M\xc3\xbcnster \xe2\x82\xac\""), TEXT("M\xc3\xbcnster \xe2\x82\xac")},
        {"a lone high surrogate", TEXT("\"\\ud83d\""), NULL, 0},
        {"a lone low surrogate", TEXT("\"\\ude00\""), NULL, 0},
        {"high, then a letter", TEXT("\"\\ud83da\""), NULL, 0},
        {"high, then another escape", TEXT("\"\\ud83d\\n12345\""), NULL, 0},
        {"high, then no surrogate", TEXT("\"\\ud83d\\u0041\""), NULL, 0},
        {"two high", TEXT("\"\\ud83d\\ud83d\""), NULL, 0},
        {"high, high, low", TEXT("\"\\ud83d\\ud83d\\ude00\""), NULL, 0},
        {"the wrong way round", TEXT("\"\\ude00\\ud83d\""), NULL, 0},
        {"no string", TEXT("123"), NULL, 0},
        {"nothing", TEXT(""), NULL, 0},
        {"a quote", TEXT("\""), NULL, 0},
        {"no closing quote", TEXT("\"abc"), NULL, 0},
        {"an escaped closing quote", TEXT("\"abc\\\""), NULL, 0},
        {"something behind it", TEXT("\"abc\" "), NULL, 0},
        {"a bad escape", TEXT("\"\\x\""), NULL, 0},
    };
    for (size_t i = 0; i < N_ROWS(rows); i++) {
        char *exact = malloc(rows[i].len > 0 ? rows[i].len : 1);
        memcpy(exact, rows[i].slice, rows[i].len);
        for (size_t cap = 0; cap <= rows[i].decoded_len + 4; cap++) {
            char *out = malloc(cap > 0 ? cap : 1);
            bool is_fit = rows[i].decoded != NULL && cap >= rows[i].decoded_len;
            ptrdiff_t n = json_string_decode(exact, rows[i].len, out, cap);
            cr_expect_eq(n, is_fit ? (ptrdiff_t)rows[i].decoded_len : -1, "%s, room for %zu: %td", rows[i].label, cap,
                         n);
            if (is_fit && n == (ptrdiff_t)rows[i].decoded_len)
                cr_expect_eq(memcmp(out, rows[i].decoded, rows[i].decoded_len), 0, "%s, room for %zu", rows[i].label,
                             cap);
            cr_expect_eq(portable_string_decode(exact, rows[i].len, out, cap), n, "%s: portable", rows[i].label);
            free(out);
        }
        free(exact);
    }
}
