/* A leaky integrate-and-fire neuron and its gradient, to be checked by
 *
 *     cc -std=c99 -O2 -o lif lif.c -lm
 *     refsnn conform --program ./lif --level neuron
 *
 * `lif IN OUT` reads IN/case.txt, IN/c.npy and IN/do.npy and writes OUT/u_pre.npy, o.npy, u.npy,
 * du_pre.npy and dc.npy. Exit code 3: a case that it doesn't do. Little-endian machines only.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef INCLUSIVE /* a fault, to see it found */
#define FIRES(u_pre, v_th) ((u_pre) >= (v_th))
#else
#define FIRES(u_pre, v_th) ((u_pre) > (v_th))
#endif

struct lif_case {
    double tau, v_th, shape;
    int rectangular;
    size_t steps, neurons;
};

static void stop(int code, const char *what, const char *detail)
{
    fprintf(stderr, "%s%s\n", what, detail);
    exit(code);
}

static FILE *open_in(const char *folder, const char *name, const char *mode)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        stop(1, "the path is too long: ", folder);
    FILE *file = fopen(path, mode);
    if (file == NULL)
        stop(1, "can't open ", path);
    return file;
}

/* What this program does, and no other convention. */
static const char *const fixed[][2] = {
    {"level", "neuron"},
    {"convention.neuron_model", "lif"},
    {"convention.leak", "tau*u + c"},
    {"convention.fire_at_threshold", "false"},
    {"convention.reset", "zero"},
    {"convention.output", "same step"},
    {"convention.initial_potential", "zero"},
    {"convention.reset_gradient", "full"},
    {"convention.surrogate_scale", "as given"},
    {"convention.surrogate_edge", "outside"},
    {"convention.surrogate_at", "u_pre - v_th"},
};

static struct lif_case read_case(const char *folder)
{
    struct lif_case found = {0};
    char line[1024];
    FILE *file = open_in(folder, "case.txt", "r");
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *value = strchr(line, ' ');
        if (value == NULL)
            stop(1, "case.txt: no value in ", line);
        *value++ = '\0';
        for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
            if (!strcmp(line, fixed[i][0]) && strcmp(value, fixed[i][1])) {
                value[-1] = ' ';
                stop(3, "not done here: ", line);
            }
        if (!strcmp(line, "convention.tau"))
            found.tau = strtod(value, NULL);
        else if (!strcmp(line, "convention.v_th"))
            found.v_th = strtod(value, NULL);
        else if (!strcmp(line, "convention.surrogate_shape"))
            found.shape = strtod(value, NULL);
        else if (!strcmp(line, "convention.surrogate")) {
            found.rectangular = !strcmp(value, "rectangular");
            if (!found.rectangular && strcmp(value, "tanh"))
                stop(3, "surrogate not done here: ", value);
        } else if (!strcmp(line, "input.c")
                   && sscanf(value, "%zu %zu", &found.steps, &found.neurons) != 2)
            stop(1, "input.c: want two sizes, got ", value);
    }
    fclose(file);
    return found;
}

/* .npy: 6 bytes of magic, 2 of version, 2 for the header's length, the header, the numbers. */
static double *read_npy(const char *folder, const char *name, size_t count)
{
    unsigned char start[10];
    double *data = malloc(count * sizeof *data);
    FILE *file = open_in(folder, name, "rb");
    if (data == NULL || fread(start, 1, 10, file) != 10 || memcmp(start, "\x93NUMPY\x01", 7)
        || fseek(file, start[8] + 256L * start[9], SEEK_CUR)
        || fread(data, sizeof *data, count, file) != count)
        stop(1, "can't read ", name);
    fclose(file);
    return data;
}

static void write_npy(const char *folder, const char *name, const struct lif_case *p,
                      const double *data)
{
    char header[118];
    size_t count = p->steps * p->neurons;
    snprintf(header, sizeof header,
             "{'descr': '<f8', 'fortran_order': False, 'shape': (%zu, %zu), }", p->steps,
             p->neurons);
    FILE *file = open_in(folder, name, "wb");
    fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, file); /* 10 + 118 bytes: a multiple of 64 */
    fprintf(file, "%-117s\n", header);
    if (fwrite(data, sizeof *data, count, file) != count || fclose(file))
        stop(1, "can't write ", name);
}

/* Eq. 4: do/du_pre */
static double slope(const struct lif_case *p, double u_pre)
{
    double x = u_pre - p->v_th;
    if (p->rectangular)
        return fabs(x) < p->shape / 2 ? 1 / p->shape : 0;
    return p->shape * (1 - tanh(x) * tanh(x));
}

int main(int argc, char **argv)
{
    if (argc != 3)
        stop(2, "usage: lif IN OUT", "");
    const struct lif_case p = read_case(argv[1]);
    const size_t n = p.neurons, count = p.steps * n;
    const double *c = read_npy(argv[1], "c.npy", count), *d_o = read_npy(argv[1], "do.npy", count);
    double *u_pre = calloc(count, sizeof *u_pre), *o = calloc(count, sizeof *o);
    double *u = calloc(count, sizeof *u), *delta = calloc(count, sizeof *delta);
    if (!u_pre || !o || !u || !delta)
        stop(1, "out of memory", "");

    for (size_t i = 0; i < count; i++) { /* i = t n + neuron; i - n is the step before */
        u_pre[i] = p.tau * (i < n ? 0 : u[i - n]) + c[i];     /* Eq. 1 */
        o[i] = FIRES(u_pre[i], p.v_th);                       /* Eq. 2 */
        u[i] = u_pre[i] * (1 - o[i]);
    }
    for (size_t i = count; i-- > 0;) { /* Eq. 3, the reset differentiated */
        double h = slope(&p, u_pre[i]), later = i + n < count ? delta[i + n] : 0;
        delta[i] = d_o[i] * h + later * p.tau * ((1 - o[i]) - u_pre[i] * h);
    }

    write_npy(argv[2], "u_pre.npy", &p, u_pre);
    write_npy(argv[2], "o.npy", &p, o);
    write_npy(argv[2], "u.npy", &p, u);
    write_npy(argv[2], "du_pre.npy", &p, delta);
    write_npy(argv[2], "dc.npy", &p, delta); /* c enters u_pre with weight 1 */
    return 0;
}
