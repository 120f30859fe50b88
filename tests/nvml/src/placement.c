/* NVIDIA's rules of what may be placed where, and which start the driver chooses. Written from the rules alone. */
#include "state.h"

#include <stddef.h>

static int overlap(int start, int extent, int other, int other_extent) {
    return start < other + other_extent && other < start + extent;
}

int is_start(const int32_t *starts, int count, int start) {
    for (int i = 0; i < count; i++)
        if (starts[i] == start) return 1;
    return 0;
}

int find_profile(const Model *model, int id) {
    for (int i = 0; i < model->profile_count; i++)
        if (model->profiles[i].id == id) return i;
    return NONE;
}

int find_compute_profile(const Profile *profile, int id) {
    for (int i = 0; i < profile->compute_profile_count; i++)
        if (profile->compute_profiles[i].id == id) return i;
    return NONE;
}

/* Whether one more instance of a profile respects maxima, engine totals and limits of kinds. */
int allowed(const Model *model, const Gpu *gpu, int profile) {
    const Profile *wanted = &model->profiles[profile];
    int same = 1, all = 1, gfx = wanted->gfx, compute = !wanted->gfx, engines[ENGINES];
    for (int e = 0; e < ENGINES; e++) engines[e] = wanted->engines[e];
    for (int i = 0; i < MAX_GPU_INSTANCES; i++) {
        const GpuInstance *gi = &gpu->instances[i];
        if (!gi->used) continue;
        const Profile *present = &model->profiles[gi->profile];
        same += gi->profile == profile;
        all++;
        gfx += present->gfx;
        compute += !present->gfx;
        for (int e = 0; e < ENGINES; e++) engines[e] += present->engines[e];
    }
    if (same > wanted->max_count || all > model->max_instances || gfx > model->max_gfx || compute > model->max_compute)
        return 0;
    for (int e = 0; e < ENGINES; e++)
        if (engines[e] > model->engine_totals[e]) return 0;
    return 1;
}

int free_at(const Model *model, const Gpu *gpu, int profile, int start) {
    const Profile *wanted = &model->profiles[profile];
    if (!is_start(wanted->starts, wanted->start_count, start)) return 0;
    for (int i = 0; i < MAX_GPU_INSTANCES; i++) {
        const GpuInstance *gi = &gpu->instances[i];
        if (gi->used && overlap(start, wanted->extent, gi->start, model->profiles[gi->profile].extent)) return 0;
    }
    return 1;
}

/* How many placements that are free now a placement would take away. */
static int damage(const Model *model, const Gpu *gpu, int profile, int start) {
    int taken = 0;
    for (int p = 0; p < model->profile_count; p++) {
        const Profile *other = &model->profiles[p];
        for (int s = 0; s < other->start_count; s++)
            taken += overlap(start, model->profiles[profile].extent, other->starts[s], other->extent) &&
                     free_at(model, gpu, p, other->starts[s]);
    }
    return taken;
}

/* The start that takes away the fewest free placements, the lowest of equals.
 *
 * This gives the orders seen on A100s: seven 1g go to 6, 4, 5, 0, 1, 2, 3; `-cgi 9,19,14,19` fits, `19,19,14,9` does not.
 */
int choose_start(const Model *model, const Gpu *gpu, int profile) {
    const Profile *wanted = &model->profiles[profile];
    int best = NONE, least = 0;
    for (int s = 0; s < wanted->start_count; s++) {
        int start = wanted->starts[s];
        if (!free_at(model, gpu, profile, start)) continue;
        int cost = damage(model, gpu, profile, start);
        if (best == NONE || cost < least) {
            best = start;
            least = cost;
        }
    }
    return best;
}

int capacity(const Model *model, const Gpu *gpu, int profile) {
    const Profile *wanted = &model->profiles[profile];
    Gpu trial = *gpu;
    int added = 0, slot = 0;
    for (int s = 0; s < wanted->start_count; s++) {
        if (!free_at(model, &trial, profile, wanted->starts[s]) || !allowed(model, &trial, profile)) continue;
        while (slot < MAX_GPU_INSTANCES && trial.instances[slot].used) slot++;
        if (slot == MAX_GPU_INSTANCES) break;
        trial.instances[slot].used = 1;
        trial.instances[slot].profile = profile;
        trial.instances[slot].start = wanted->starts[s];
        added++;
    }
    return added;
}

static int id_taken(const Gpu *gpu, int id) {
    for (int i = 0; i < MAX_GPU_INSTANCES; i++)
        if (gpu->instances[i].used && gpu->instances[i].id == id) return 1;
    return 0;
}

/* Ids as the driver numbers instances: 0 the whole GPU, then the halves (1, 2), the quarters (3..6), the eighths (7..).
 *
 * So the same place has the same id again after the instance was destroyed. */
int instance_id(const Model *model, const Gpu *gpu, int profile, int start) {
    int extent = model->profiles[profile].extent, id;
    if (model->units % extent == 0 && start % extent == 0) {
        id = model->units / extent - 1 + start / extent;
        if (!id_taken(gpu, id)) return id;
    }
    for (id = 32; id_taken(gpu, id); id++) continue;
    return id;
}

/* -- compute instances ------------------------------------------------------------------------------------------- */

int compute_allowed(const Profile *profile, const GpuInstance *gi, int compute_profile) {
    int same = 1, slices = profile->compute_profiles[compute_profile].slices;
    for (int i = 0; i < MAX_COMPUTE_INSTANCES; i++)
        if (gi->compute[i].used) {
            same += gi->compute[i].profile == compute_profile;
            slices += profile->compute_profiles[gi->compute[i].profile].slices;
        }
    return same <= profile->compute_profiles[compute_profile].max_count && slices <= profile->slices;
}

int compute_free_at(const Profile *profile, const GpuInstance *gi, int compute_profile, int start) {
    const ComputeProfile *wanted = &profile->compute_profiles[compute_profile];
    if (!is_start(wanted->starts, wanted->start_count, start)) return 0;
    for (int i = 0; i < MAX_COMPUTE_INSTANCES; i++) {
        const ComputeInstance *ci = &gi->compute[i];
        if (ci->used && overlap(start, wanted->extent, ci->start, profile->compute_profiles[ci->profile].extent)) return 0;
    }
    return 1;
}

int choose_compute_start(const Profile *profile, const GpuInstance *gi, int compute_profile) {
    const ComputeProfile *wanted = &profile->compute_profiles[compute_profile];
    for (int s = 0; s < wanted->start_count; s++)
        if (compute_free_at(profile, gi, compute_profile, wanted->starts[s])) return wanted->starts[s];
    return NONE;
}

int compute_capacity(const Profile *profile, const GpuInstance *gi, int compute_profile) {
    const ComputeProfile *wanted = &profile->compute_profiles[compute_profile];
    GpuInstance trial = *gi;
    int added = 0, slot = 0;
    for (int s = 0; s < wanted->start_count; s++) {
        if (!compute_free_at(profile, &trial, compute_profile, wanted->starts[s]) ||
            !compute_allowed(profile, &trial, compute_profile))
            continue;
        while (slot < MAX_COMPUTE_INSTANCES && trial.compute[slot].used) slot++;
        if (slot == MAX_COMPUTE_INSTANCES) break;
        trial.compute[slot] = (ComputeInstance){1, 0, 0, compute_profile, wanted->starts[s]};
        added++;
    }
    return added;
}
