import { roundToChunk } from './arena.js';

interface Block {
  offset: number;
  bytes: number;
}

/**
 * The block ONNX Runtime lays out after the first run with a shape, so that later runs need one allocation:
 * best fit by gap between live blocks (core/framework/mem_pattern_planner.h).
 */
export class PatternPlanner {
  /** Size of the block. */
  peak = 0;
  private readonly live: Block[] = [];

  /** Places a buffer of `bytes` (> 0) and returns its offset. */
  allocate(bytes: number): number {
    const rounded = roundToChunk(bytes);
    let current = 0;
    let least = Infinity;
    let best = -1;
    let place = this.live.length;
    this.live.forEach((block, index) => {
      if (block.offset >= current) {
        const gap = block.offset - current;
        if (gap >= rounded && gap - rounded < least) {
          least = gap - rounded;
          best = current;
          place = index;
        }
      }
      current = Math.max(current, block.offset + block.bytes);
    });
    if (current < this.peak) {
      const gap = this.peak - current;
      if (gap >= rounded && gap - rounded < least) {
        best = current;
        place = this.live.length;
      }
    }
    const offset = best >= 0 ? best : current;
    this.live.splice(best >= 0 ? place : this.live.length, 0, { offset, bytes: rounded });
    this.peak = Math.max(this.peak, offset + rounded);
    return offset;
  }

  /** Frees the buffer placed at `offset`. */
  free(offset: number): void {
    const at = this.live.findIndex((block) => block.offset === offset);
    if (at >= 0) this.live.splice(at, 1);
  }
}
